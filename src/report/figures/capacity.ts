/**
 * Requested capacity of stratified layers (stratified mixture of experts §12).
 * @module
 */
import * as Plot from '@observablehq/plot';
import type { CapacityDemand, MeanCapacity } from '../../analyze/index.js';
import { draw, runColor, short } from '../draw.js';
import type { Figure, Panel } from '../figure.js';
import { table } from '../html.js';

/** Tokens that the page lists; `report.json` has more. */
const LISTED = 8;

export const capacity: Figure = {
  id: 'capacity',
  title: 'Requested capacity',
  reading:
    'The number of strata that a token passes, averaged over its class or its place; the dashed line is what gates without a preference would ask for.',
  numbers: 'runs[].routing.capacity',
  draw({ runs }) {
    return runs.flatMap(({ name, routing }, color): Panel[] =>
      (routing?.capacity ?? []).flatMap((demand) => {
        const where = `${name}, layer ${demand.layerIndex}`;
        return [
          {
            caption: `${where}: by class`,
            markup: means(`${where}: requested capacity by class`, demand, demand.byClass, color),
          },
          {
            caption: `${where}: by place`,
            markup: means(`${where}: requested capacity by place`, demand, demand.byPosition, color),
          },
          { caption: `${where}: tokens that ask for most and least`, markup: tokens(demand) },
        ];
      }),
    );
  },
};

function means(
  label: string,
  { strata, uniform }: CapacityDemand,
  values: readonly MeanCapacity[],
  color: number,
): string {
  return draw(label, {
    width: 320,
    height: 60 + 17 * values.length,
    marginLeft: 22 + 6.5 * Math.max(3, ...values.map(({ name }) => name.length)),
    marginBottom: 36,
    x: {
      domain: [0, strata.length],
      label: 'strata',
      labelArrow: 'none',
      ticks: strata.length,
      tickFormat: 'd',
    },
    y: { domain: values.map(({ name }) => name), label: null, tickSize: 0 },
    marks: [
      Plot.gridX({ ticks: strata.length, stroke: 'var(--line)', strokeOpacity: 1 }),
      Plot.barX(values, {
        x: 'mean',
        y: 'name',
        inset: 1.5,
        fill: runColor(color),
        fillOpacity: 0.8,
        title: ({ name, mean, count }: MeanCapacity) => `${name}: ${short(mean)} over ${count} tokens`,
      }),
      Plot.ruleX([uniform], { stroke: 'var(--ink)', strokeDasharray: '3,3' }),
    ],
  });
}

function tokens({ highest, lowest }: CapacityDemand): string {
  const say = (entry: MeanCapacity | undefined): string[] =>
    entry ? [entry.name, short(entry.mean)] : ['', ''];
  return table(
    ['most', 'strata', 'least', 'strata'],
    Array.from({ length: Math.min(LISTED, highest.length) }, (_, i) => [
      ...say(highest[i]),
      ...say(lowest[i]),
    ]),
  );
}
