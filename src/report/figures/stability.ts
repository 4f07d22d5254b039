/**
 * How much routing still changes between the saved checkpoints.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, percent, runColor, spread, xAxis, yAxis } from '../draw.js';
import type { Figure } from '../figure.js';

interface Point {
  readonly series: string;
  readonly layer: string;
  readonly color: number;
  readonly step: number;
  readonly share: number;
}

export const stability: Figure = {
  id: 'stability',
  title: 'Stability over training',
  reading:
    'Each line is one layer: the share of validation tokens whose first choice is not that of the checkpoint before; routing has settled where it comes near zero.',
  numbers: 'runs[].stability',
  draw({ runs }) {
    const points = runs.flatMap(({ name, stability: found }, color) =>
      (found?.layers ?? []).flatMap(({ layer, changed }) =>
        changed.map((share, i): Point => {
          return { series: `${name}, layer ${layer}`, layer, color, step: found!.steps[i + 1], share };
        }),
      ),
    );
    if (points.length === 0) return [];
    const stroke = ({ color }: Point): string => runColor(color);
    const most = Math.max(0.1, ...points.map(({ share }) => share));
    const final = [...new Map(points.map((point) => [point.series, point])).values()];
    const labels = spread(
      final.map(({ share }) => share),
      most / 17,
    );
    const markup = draw('Share of tokens that changed their first choice, by step', {
      width: 620,
      height: 280,
      marginLeft: 48,
      marginRight: 70,
      marginBottom: 38,
      x: xAxis('step', { ticks: [...new Set(points.map(({ step }) => step))].slice(-12), tickFormat: 'd' }),
      y: yAxis('tokens with another first choice', {
        domain: [0, most],
        nice: true,
        tickFormat: percent,
        ticks: 5,
      }),
      marks: [
        Plot.gridY({ ticks: 5, stroke: 'var(--line)', strokeOpacity: 1 }),
        Plot.line(points, {
          x: 'step',
          y: 'share',
          z: 'series',
          stroke,
          strokeWidth: 1.5,
          strokeOpacity: 0.8,
        }),
        Plot.dot(points, {
          x: 'step',
          y: 'share',
          r: 3,
          fill: stroke,
          stroke: 'var(--paper)',
          title: ({ series, step, share }: Point) => `${series}, to step ${step}: ${percent(share)}`,
        }),
        Plot.text(final, {
          x: 'step',
          y: (_: Point, i: number) => labels[i],
          text: ({ layer }: Point) => `layer ${layer}`,
          textAnchor: 'start',
          dx: 8,
          fill: stroke,
        }),
      ],
    });
    return [{ caption: '', markup }];
  },
};
