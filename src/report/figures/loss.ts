/**
 * Loss over training, all runs on one axis.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, runColor, short, spread, xAxis, yAxis } from '../draw.js';
import type { Figure } from '../figure.js';

interface Point {
  readonly run: string;
  readonly color: number;
  readonly step: number;
  readonly loss: number;
}

export const loss: Figure = {
  id: 'loss',
  title: 'Loss',
  reading:
    'Faint lines are the training loss, strong ones with dots the validation loss; lower is better, and a widening gap between the two is overfitting.',
  numbers: 'runs[].history.training, runs[].history.validation',
  draw({ runs }) {
    const of = (part: 'training' | 'validation'): Point[] =>
      runs.flatMap(({ name, history }, color) =>
        history[part].map(({ step, loss: value }) => ({ run: name, color, step, loss: value })),
      );
    const [training, validation] = [of('training'), of('validation')];
    if (training.length + validation.length === 0) return [];
    const stroke = ({ color }: Point): string => runColor(color);
    const last = runs.flatMap(({ name }) => validation.filter(({ run }) => run === name).at(-1) ?? []);
    const losses = [...training, ...validation].map(({ loss: value }) => value);
    const range = Math.max(...losses) - Math.min(...losses);
    const labels = spread(
      last.map(({ loss: value }) => value),
      range / 18,
    );
    const markup = draw('Training and validation loss over steps', {
      width: 1040,
      height: 320,
      marginRight: 66,
      marginLeft: 40,
      marginBottom: 38,
      x: xAxis('step', { nice: true }),
      y: yAxis('nats per token', { nice: true, ticks: 6 }),
      marks: [
        Plot.gridY({ ticks: 6, stroke: 'var(--line)', strokeOpacity: 1 }),
        Plot.line(training, {
          x: 'step',
          y: 'loss',
          z: 'run',
          stroke,
          strokeOpacity: 0.45,
          strokeWidth: 1.25,
        }),
        Plot.line(validation, { x: 'step', y: 'loss', z: 'run', stroke, strokeWidth: 2 }),
        Plot.dot(validation, {
          x: 'step',
          y: 'loss',
          r: 3.5,
          fill: stroke,
          stroke: 'var(--paper)',
          title: ({ run, step, loss: value }: Point) =>
            `${run}, step ${step}: validation loss ${short(value)}`,
        }),
        Plot.text(last, {
          x: 'step',
          y: (_: Point, i: number) => labels[i],
          text: ({ loss: value }: Point) => value.toFixed(3),
          fill: stroke,
          textAnchor: 'start',
          dx: 8,
          fontWeight: 600,
          fontVariant: 'tabular-nums',
        }),
      ],
    });
    return [{ caption: '', markup }];
  },
};
