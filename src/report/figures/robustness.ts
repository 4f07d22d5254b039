/**
 * Robustness of routing to corrupted text (adaptive clustering §12).
 * @module
 */
import { percent } from '../draw.js';
import { dotPlot } from '../dot-plot.js';
import type { Figure } from '../figure.js';

const kinds = {
  wordSwap: 'Words replaced by “AAA”',
  characterSwap: 'Neighbouring characters swapped',
} as const;

export const robustness: Figure = {
  id: 'robustness',
  title: 'Robustness to corrupted text',
  reading:
    'The share of untouched tokens behind a corrupted word that are routed to other experts than in the clean text; further left is more robust.',
  numbers: 'runs[].routing.robustness',
  draw({ runs }) {
    return (Object.keys(kinds) as (keyof typeof kinds)[]).flatMap((kind) => {
      const reports = runs.flatMap(({ name, routing }, color) =>
        (routing?.robustness ?? [])
          .filter((report) => report.kind === kind)
          .map((report) => ({ name, color, report })),
      );
      const values = reports.flatMap(({ name, color, report }) =>
        report.tokensAfterEdit === 0
          ? []
          : report.layers.map(({ layer, changedAfterEdit }) => {
              return { run: name, color, layer, value: changedAfterEdit };
            }),
      );
      if (values.length === 0) return [];
      const caption = `${kinds[kind]} (${percent(reports[0].report.rate)} of all words)`;
      const markup = dotPlot(caption, values, {
        axis: 'tokens with other experts',
        format: percent,
        tickFormat: percent,
      });
      return [{ caption, markup }];
    });
  },
};
