/**
 * Entropy and margin of routing: how sure the routers are.
 * @module
 */
import * as Plot from '@observablehq/plot';
import type { Histogram } from '../../metrics/index.js';
import { draw, percent, runColor, xAxis } from '../draw.js';
import type { Figure } from '../figure.js';
import type { Report } from '../report-data.js';

interface Bin {
  readonly run: string;
  readonly color: number;
  readonly layer: string;
  readonly low: number;
  readonly high: number;
  readonly share: number;
}

export const decisiveness: Figure = {
  id: 'decisiveness',
  title: 'Entropy and margin',
  reading:
    'Mass at low entropy or high margin means that the router is sure of its choice; near the right end of entropy it hardly prefers any expert.',
  numbers: 'runs[].routing.profiles[].entropyHistogram, …marginHistogram, …meanEntropy, …meanMargin',
  draw(report) {
    const panel = (caption: string, key: 'entropyHistogram' | 'marginHistogram', axis: string) => {
      const bins = binsOf(report, key);
      return { caption, markup: ridge(`${caption} per layer`, bins, axis) };
    };
    if (report.runs.every(({ routing }) => !routing)) return [];
    return [
      panel('Entropy of the probabilities', 'entropyHistogram', 'nats'),
      panel('Margin: first minus second probability', 'marginHistogram', 'margin'),
    ];
  },
};

function binsOf({ runs }: Report, key: 'entropyHistogram' | 'marginHistogram'): Bin[] {
  return runs.flatMap(({ name, routing }, color) =>
    (routing?.profiles ?? []).flatMap((profile) => {
      const { low, high, counts }: Histogram = profile[key];
      const total = counts.reduce((a, b) => a + b, 0);
      const width = (high - low) / counts.length;
      return counts.map((count, i) => ({
        run: name,
        color,
        layer: `layer ${profile.layer}`,
        low: low + i * width,
        high: low + (i + 1) * width,
        share: total === 0 ? 0 : count / total,
      }));
    }),
  );
}

function ridge(label: string, bins: readonly Bin[], axis: string): string {
  const layers = [...new Set(bins.map(({ layer }) => layer))];
  const runs = new Set(bins.map(({ run }) => run)).size;
  return draw(label, {
    width: 440,
    height: 56 + 58 * layers.length,
    marginLeft: 14,
    marginRight: 64,
    marginBottom: 40,
    marginTop: 10,
    x: xAxis(axis, { ticks: 5 }),
    y: { axis: null },
    fy: { domain: layers, label: null, padding: 0.12, axis: 'right' },
    marks: [
      Plot.rectY(bins, {
        x1: 'low',
        x2: 'high',
        y: 'share',
        fy: 'layer',
        z: 'run',
        // Over each other, not stacked: the shapes are compared.
        y1: 0,
        y2: 'share',
        insetLeft: 0.5,
        insetRight: 0.5,
        fill: ({ color }: Bin) => runColor(color),
        fillOpacity: runs > 1 ? 0.45 : 0.8,
        title: ({ run, layer, low, high, share }: Bin) =>
          `${run}, ${layer}: ${percent(share)} between ${low.toFixed(2)} and ${high.toFixed(2)}`,
      }),
      Plot.ruleY([0], { stroke: 'var(--quiet)' }),
    ],
  });
}
