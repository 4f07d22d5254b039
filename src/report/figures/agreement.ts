/**
 * Agreement between the routing of different layers, against chance (Omni-router §9).
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, percent, runColor, wholeTicks, xAxis, yAxis } from '../draw.js';
import type { Figure, Panel } from '../figure.js';
import { heatMap } from '../heat-map.js';
import { table } from '../html.js';
import type { Report } from '../report-data.js';

interface Point {
  readonly run: string;
  readonly color: number;
  readonly distance: number;
  readonly value: number;
}

const rows = [
  ['matched', 'Matched agreement'],
  ['matchedChance', '… of shuffled labels'],
  ['mutualInformation', 'Mutual information'],
  ['mutualInformationChance', '… of shuffled labels'],
  ['cramersV', 'Cramér’s V'],
  ['pearson', 'Indicator correlation'],
  ['canonical', 'Canonical correlation'],
  ['raw', 'Same number (shared routers)'],
] as const;

export const agreement: Figure = {
  id: 'agreement',
  title: 'Agreement between layers',
  reading:
    'A cell is the share of tokens that two layers send to the same expert after the best renaming; what counts is the distance to chance, which is what shuffled labels still reach.',
  numbers: 'runs[].routing.agreement',
  draw(report) {
    const { runs } = report;
    const maps = runs.flatMap(({ name, routing }): Panel[] => {
      const layers = routing?.agreement.layers ?? [];
      if (!routing || layers.length < 2) return [];
      const { matched, matchedChance } = routing.agreement.statistics;
      const size = Math.max(14, Math.min(46, 300 / layers.length));
      const markup = heatMap({
        label: `${name}: matched agreement between layers`,
        cells: layers.flatMap((row, i) =>
          layers.map((column, j) => ({ row, column, value: matched.map[i][j] })),
        ),
        full: 1,
        rowLabel: 'layer',
        columnLabel: 'layer',
        format: (value) => (size < 30 ? percent(value) : value.toFixed(2).replace(/^0/, '')),
        written: size >= 30,
        cellWidth: size,
        cellHeight: size,
      });
      return [{ caption: `${name}: ${percent(matched.all)}, chance ${percent(matchedChance.all)}`, markup }];
    });
    if (maps.length === 0) return [];
    return [
      ...maps,
      { caption: 'By distance between layers (dashed: chance)', markup: decay(report) },
      statistics(report),
    ];
  },
};

function decay({ runs }: Report): string {
  const points = (key: 'matched' | 'matchedChance'): Point[] =>
    runs.flatMap(({ name, routing }, color) =>
      (routing?.agreement.statistics[key].byDistance ?? []).map((value, i) => {
        return { run: name, color, distance: i + 1, value };
      }),
    );
  const stroke = ({ color }: Point): string => runColor(color);
  const found = points('matched');
  return draw('Matched agreement by distance between layers', {
    width: 340,
    height: 240,
    marginLeft: 48,
    marginTop: 28,
    marginBottom: 38,
    x: xAxis('layers apart', {
      ticks: wholeTicks(Math.max(...found.map(({ distance }) => distance))),
      tickFormat: 'd',
      domain: [0.8, Math.max(...found.map(({ distance }) => distance)) + 0.2],
    }),
    y: yAxis('matched agreement', { domain: [0, 1], tickFormat: percent, ticks: 5 }),
    marks: [
      Plot.gridY({ ticks: 5, stroke: 'var(--line)', strokeOpacity: 1 }),
      Plot.line(points('matchedChance'), {
        x: 'distance',
        y: 'value',
        z: 'run',
        stroke,
        strokeDasharray: '3,3',
      }),
      Plot.line(found, { x: 'distance', y: 'value', z: 'run', stroke, strokeWidth: 2 }),
      Plot.dot(found, {
        x: 'distance',
        y: 'value',
        r: 3.5,
        fill: stroke,
        stroke: 'var(--paper)',
        title: ({ run, distance, value }: Point) => `${run}, ${distance} apart: ${percent(value)}`,
      }),
    ],
  });
}

function statistics({ runs }: Report): Panel {
  const shown = runs.filter(({ routing }) => (routing?.agreement.layers.length ?? 0) > 1);
  const markup = table(
    ['Mean over neighbours / all pairs', ...shown.map(({ name }) => name)],
    rows.map(([key, label]) => [
      label,
      ...shown.map(({ routing }) => {
        const { adjacent, all } = routing!.agreement.statistics[key];
        return `${adjacent.toFixed(3)} / ${all.toFixed(3)}`;
      }),
    ]),
  );
  return { caption: 'All statistics', markup };
}
