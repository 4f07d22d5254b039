/**
 * Curves of the last minutes.
 * @module
 */
import uPlot from './uplot.js';
import { themeColor } from './elements.js';

/** Points that are kept: two minutes at two a second. */
const POINTS = 240;

/** One curve of a chart. */
export interface Curve {
  readonly label: string;
  /** Name of its colour in the theme. */
  readonly color: string;
  readonly fill?: boolean;
}

/** A small chart over time that grows to the right and forgets at the left. */
export class Chart {
  private readonly times: number[] = [];
  private readonly values: (number | null)[][];
  private plot: uPlot | undefined;

  /**
   * @param most the axis ends here at least
   * @param unit after the numbers of the axis
   */
  constructor(
    private readonly place: HTMLElement,
    private readonly curves: readonly Curve[],
    private readonly most: number,
    private readonly unit = '',
  ) {
    this.values = curves.map(() => []);
    new ResizeObserver(() => this.draw()).observe(place);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.plot?.destroy();
      this.plot = undefined;
      this.draw();
    });
  }

  /** @param seconds since 1970 */
  add(seconds: number, values: readonly (number | null)[]): void {
    this.times.push(seconds);
    this.curves.forEach((_, i) => this.values[i].push(values[i]));
    if (this.times.length > POINTS) for (const list of [this.times, ...this.values]) list.shift();
    this.draw();
  }

  private draw(): void {
    const width = this.place.clientWidth;
    if (width === 0) return;
    this.plot ??= this.create(width);
    if (this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
    this.plot.setData([this.times, ...this.values]);
  }

  private create(width: number): uPlot {
    const axis = { stroke: themeColor('quiet'), font: '11px system-ui', ticks: { show: false } };
    const grid = { stroke: themeColor('line'), width: 1 };
    return new uPlot(
      {
        ...{ width, height: HEIGHT },
        padding: [8, 4, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: true, range: (_, __, last) => [last - POINTS / 2, last] },
          y: { range: (_, __, highest) => [0, Math.max(this.most, 1.1 * highest)] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 22, space: 90, values: (_, at) => at.map(clock) },
          {
            ...axis,
            grid,
            size: 46,
            space: 26,
            values: (_, at) => at.map((value) => `${compact(value)}${this.unit}`),
          },
        ],
        series: [
          {},
          ...this.curves.map(({ label, color, fill }) => ({
            label,
            stroke: themeColor(color),
            width: 1,
            points: { show: false },
            ...(fill && { fill: `color-mix(in srgb, ${themeColor(color)} 18%, transparent)` }),
          })),
        ],
      },
      [this.times, ...this.values],
      this.place,
    );
  }
}

const HEIGHT = 110;

function clock(seconds: number): string {
  return new Date(1000 * seconds).toLocaleTimeString('en-GB', { minute: '2-digit', second: '2-digit' });
}

function compact(value: number): string {
  return value >= 1000 ? `${Number((value / 1000).toFixed(1))}k` : String(Number(value.toPrecision(3)));
}
