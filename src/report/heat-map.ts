/**
 * Heat maps: a grid of cells, shaded by value, one beside the other for each layer.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, inkOn, shade } from './draw.js';

/** One cell. */
export interface HeatCell {
  readonly row: string | number;
  readonly column: string | number;
  /** Name of the map that the cell belongs to, where there are several. */
  readonly facet?: string;
  readonly value: number;
}

/** How a heat map looks. */
export interface HeatMapOptions {
  readonly label: string;
  readonly cells: readonly HeatCell[];
  /** Value of the full colour. */
  readonly full: number;
  readonly rowLabel: string;
  readonly columnLabel: string;
  readonly format: (value: number) => string;
  /** Whether the value is written in its cell. */
  readonly written?: boolean;
  /** Pixels. */
  readonly cellWidth: number;
  readonly cellHeight: number;
  /** Columns that get a tick; all when absent. */
  readonly columnTicks?: readonly (string | number)[];
  /** Maps below each other rather than beside. */
  readonly stacked?: boolean;
}

/** Draws the maps of all facets on common axes. */
export function heatMap(options: HeatMapOptions): string {
  const { label, cells, full, rowLabel, columnLabel, format, written = false, stacked = false } = options;
  const distinct = <Key>(key: (cell: HeatCell) => Key): Key[] => [...new Set(cells.map(key))];
  const rows = distinct(({ row }) => row);
  const columns = distinct(({ column }) => column);
  const facets = distinct(({ facet }) => facet).filter((facet) => facet !== undefined);
  const marginLeft = 18 + 6.5 * Math.max(2, ...rows.map((row) => String(row).length));
  const marginRight = stacked && facets.length > 0 ? 64 : 8;
  const [across, down] = stacked ? [1, Math.max(1, facets.length)] : [Math.max(1, facets.length), 1];
  const gap = 0.06;
  const facetWidth = options.cellWidth * columns.length;
  const facetHeight = options.cellHeight * rows.length;
  const channels = {
    x: 'column',
    y: 'row',
    ...(facets.length > 0 ? { [stacked ? 'fy' : 'fx']: 'facet' } : {}),
  };
  return draw(label, {
    width: Math.round(marginLeft + marginRight + (facetWidth * (across - gap)) / (1 - gap)),
    height: Math.round(44 + (stacked ? 8 : 24) + (facetHeight * (down - gap)) / (1 - gap)),
    marginLeft,
    marginRight,
    marginBottom: 36,
    marginTop: stacked ? 8 : 26,
    padding: 0,
    x: { domain: columns, label: columnLabel, tickSize: 0, labelArrow: 'none', ticks: options.columnTicks },
    y: { domain: rows, label: null, tickSize: 0, ariaLabel: rowLabel },
    fx: { domain: facets, label: null, padding: gap },
    fy: { domain: facets, label: null, padding: gap },
    marks: [
      Plot.cell(cells, {
        ...channels,
        // Narrow cells touch, so that a row reads as a band.
        insetLeft: options.cellWidth < 9 ? 0 : 0.5,
        insetRight: options.cellWidth < 9 ? 0 : 0.5,
        insetTop: 0.5,
        insetBottom: 0.5,
        rx: options.cellWidth < 9 ? 0 : 1.5,
        fill: ({ value }: HeatCell) => shade(value / full),
        title: ({ facet, row, column, value }: HeatCell) =>
          [
            ...(facet === undefined ? [] : [facet]),
            `${rowLabel} ${row}, ${columnLabel} ${column}: ${format(value)}`,
          ].join('\n'),
      }),
      ...(written
        ? [
            Plot.text(cells, {
              ...channels,
              text: ({ value }: HeatCell) => format(value),
              fill: ({ value }: HeatCell) => inkOn(value / full),
              pointerEvents: 'none',
              fontVariant: 'tabular-nums',
            }),
          ]
        : []),
    ],
  });
}
