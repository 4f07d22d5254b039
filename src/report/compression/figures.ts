/**
 * Figures about compressed models.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, runColor, short, xAxis, yAxis } from '../draw.js';
import type { Figure } from '../figure.js';
import type { CompressionReport } from './data.js';

const grid = (): unknown => Plot.gridY({ ticks: 5, stroke: 'var(--line)', strokeOpacity: 1 });

/** Share of the energy that the first directions hold. */
const spectrum: Figure<CompressionReport> = {
  id: 'spectrum',
  title: 'Spectrum of the residuals',
  reading:
    'Share of the energy of the first expert’s residual that its first singular directions hold, a line a layer. A line that jumps up compresses well by factors; one near the diagonal is flat, and pruning single numbers keeps more.',
  numbers: 'models[].compression.layers[].spectrum',
  draw({ models }) {
    return models.flatMap(({ name, compression }) => {
      const points = (compression?.layers ?? []).flatMap(({ name: layer, spectrum: values = [] }, color) => {
        const energy = values.reduce((sum, value) => sum + value * value, 0);
        if (energy === 0) return [];
        let sum = 0;
        return [
          { layer, color, directions: 0, share: 0 },
          ...values.map((value, i) => {
            sum += value * value;
            return { layer, color, directions: (i + 1) / values.length, share: sum / energy };
          }),
        ];
      });
      if (points.length === 0) return [];
      const markup = draw('Energy of the residuals by their singular directions', {
        width: 500,
        height: 300,
        marginBottom: 38,
        x: xAxis('share of the directions', { domain: [0, 1], ticks: 5 }),
        y: yAxis('share of the energy', { domain: [0, 1], ticks: 5 }),
        marks: [
          grid(),
          Plot.line(
            [
              { x: 0, y: 0 },
              { x: 1, y: 1 },
            ],
            { x: 'x', y: 'y', stroke: 'var(--line)' },
          ),
          Plot.line(points, {
            x: 'directions',
            y: 'share',
            z: 'layer',
            stroke: ({ color }: { color: number }) => runColor(color),
            strokeWidth: 1.5,
            title: ({ layer }: { layer: string }) => layer,
          }),
        ],
      });
      return [{ caption: name, markup }];
    });
  },
};

/** ε of every layer, a dot a model. */
const errors: Figure<CompressionReport> = {
  id: 'errors',
  title: 'Error of each layer',
  reading:
    'What a layer’s experts lost, as a share of their energy (ε / ‖D‖²), a dot a model; further left is better.',
  numbers: 'models[].compression.layers[].report',
  draw({ models }) {
    const points = models.flatMap(({ name, compression }, color) =>
      (compression?.layers ?? []).map(({ name: layer, report: { error, energy } }) => ({
        model: name,
        color,
        layer,
        error: energy === 0 ? 0 : error / energy,
      })),
    );
    if (points.length === 0) return [];
    const layers = [...new Set(points.map(({ layer }) => layer))];
    const markup = draw('Relative error of each layer, by model', {
      width: 1040,
      height: 60 + 24 * layers.length,
      marginLeft: 12 + 6.5 * Math.max(...layers.map(({ length }) => length)),
      marginBottom: 38,
      x: xAxis('share of the energy that is lost', { zero: true, nice: true }),
      y: yAxis('', { type: 'point', domain: layers }),
      marks: [
        Plot.gridY({ stroke: 'var(--line)', strokeOpacity: 1 }),
        Plot.dot(points, {
          x: 'error',
          y: 'layer',
          r: 5,
          fill: ({ color }: { color: number }) => runColor(color),
          title: ({ model, layer, error }: (typeof points)[number]) =>
            `${model}, ${layer}: ${error.toPrecision(4)}`,
        }),
      ],
    });
    return [{ caption: '', markup }];
  },
};

/** Bytes against loss; models of one method are joined. */
const sizes: Figure<CompressionReport> = {
  id: 'size',
  title: 'Size and loss',
  reading:
    'Bytes of a model’s weights on disk, and its loss on the text; nearer to the lower left is better. Models of one method are joined by a line.',
  numbers: 'models[].bytes, models[].loss',
  draw({ models }) {
    const points = models.flatMap(({ name, bytes, loss, compression }, color) =>
      loss === null
        ? []
        : [{ name, color, megabytes: bytes / 1e6, loss, method: methodOf(compression) ?? name }],
    );
    if (points.length === 0) return [];
    const markup = draw('Loss over bytes on disk, a dot a model', {
      width: 1040,
      height: 340,
      marginLeft: 48,
      marginRight: 160,
      marginBottom: 38,
      x: xAxis('megabytes on disk', { nice: true }),
      y: yAxis('nats per token', { nice: true, ticks: 5 }),
      marks: [
        grid(),
        Plot.line(points, {
          x: 'megabytes',
          y: 'loss',
          z: 'method',
          sort: 'megabytes',
          stroke: 'var(--line)',
        }),
        Plot.dot(points, {
          x: 'megabytes',
          y: 'loss',
          r: 5,
          fill: ({ color }: { color: number }) => runColor(color),
          title: ({ name, megabytes, loss }: (typeof points)[number]) =>
            `${name}: ${short(megabytes)} MB, ${loss.toFixed(4)} nats per token`,
        }),
        Plot.text(points, {
          x: 'megabytes',
          y: 'loss',
          text: 'name',
          dx: 9,
          textAnchor: 'start',
          fill: 'var(--ink)',
        }),
      ],
    });
    return [{ caption: '', markup }];
  },
};

/** Method and what is beside it, without how much is kept. */
function methodOf(compression: CompressionReport['models'][number]['compression']): string | undefined {
  if (!compression) return undefined;
  const { perExpert: _, layer: __, ...options } = compression.options;
  return `${compression.method} ${JSON.stringify(options)}`;
}

/** All figures, in the order of the page. */
export const compressionFigures: readonly Figure<CompressionReport>[] = [sizes, errors, spectrum];
