/**
 * Dot plots: one row a layer, one dot a run, for a figure that each layer has.
 * @module
 */
import * as Plot from '@observablehq/plot';
import { draw, runColor } from './draw.js';

/** A layer of a run with its value. */
export interface LayerValue {
  readonly run: string;
  /** Number of the run in the report. */
  readonly color: number;
  readonly layer: string;
  readonly value: number;
}

/** Draws the values of all layers of all runs on one axis. */
export function dotPlot(
  label: string,
  values: readonly LayerValue[],
  {
    axis,
    domain,
    format,
    tickFormat,
  }: {
    readonly axis: string;
    readonly domain?: readonly [number, number];
    readonly format: (value: number) => string;
    readonly tickFormat?: string | ((value: number) => string);
  },
): string {
  const layers = [...new Set(values.map(({ layer }) => layer))];
  const most = Math.max(...values.map(({ value }) => value), 0);
  return draw(label, {
    width: 300,
    height: 62 + 24 * layers.length,
    marginLeft: 58,
    marginRight: 20,
    marginTop: 14,
    marginBottom: 38,
    x: {
      label: axis,
      domain: domain ?? [0, most === 0 ? 1 : 1.08 * most],
      ticks: 4,
      tickFormat,
      nice: true,
      labelArrow: 'none',
      labelAnchor: 'center',
    },
    y: { domain: layers, label: null, tickSize: 0, tickFormat: (layer: string) => `layer ${layer}` },
    marks: [
      Plot.gridX({ ticks: 4, stroke: 'var(--line)', strokeOpacity: 1 }),
      Plot.ruleY(layers, { y: (layer: string) => layer, stroke: 'var(--line)', strokeDasharray: '1,3' }),
      Plot.dot(values, {
        x: 'value',
        y: 'layer',
        r: 4.5,
        fill: ({ color }: LayerValue) => runColor(color),
        fillOpacity: 0.9,
        stroke: 'var(--paper)',
        title: ({ run, layer, value }: LayerValue) => `${run}, layer ${layer}: ${format(value)}`,
      }),
    ],
  });
}
