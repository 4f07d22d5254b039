/**
 * One figure a layer: balance, certainty, and movement along the text.
 * @module
 */
import type { LayerProfile } from '../../analyze/index.js';
import { percent, short } from '../draw.js';
import { dotPlot } from '../dot-plot.js';
import type { Figure } from '../figure.js';

interface Measure {
  readonly caption: string;
  readonly axis: string;
  readonly of: (profile: LayerProfile) => number;
  readonly share?: boolean;
}

const measures: readonly Measure[] = [
  {
    caption: 'Effective experts',
    axis: 'share of all experts',
    of: (p) => p.effectiveExperts / p.visibleExperts,
    share: true,
  },
  { caption: 'Load imbalance', axis: 'standard deviation, percentage points', of: (p) => p.loadDeviation },
  { caption: 'Run length', axis: 'tokens before the first choice changes', of: (p) => p.meanRunLength },
  {
    caption: 'Switching rate',
    axis: 'neighbours with another first choice',
    of: (p) => p.switchingRate,
    share: true,
  },
];

export const layers: Figure = {
  id: 'layers',
  title: 'Layer by layer',
  reading:
    'A dot is one layer of one run: many effective experts and little imbalance mean that capacity is used; long runs mean that routing follows stretches of text rather than single tokens.',
  numbers: 'runs[].routing.profiles[]',
  draw({ runs }) {
    if (runs.every(({ routing }) => !routing)) return [];
    return measures.map(({ caption, axis, of, share }) => {
      const values = runs.flatMap(({ name, routing }, color) =>
        (routing?.profiles ?? []).map((profile) => ({
          run: name,
          color,
          layer: profile.layer,
          value: of(profile),
        })),
      );
      const markup = dotPlot(`${caption} per layer`, values, {
        axis,
        format: share ? percent : short,
        ...(share ? { domain: [0, 1] as const, tickFormat: percent } : {}),
      });
      return { caption, markup };
    });
  },
};
