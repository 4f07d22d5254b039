/**
 * Expert load of every layer over training.
 * @module
 */
import { percent } from '../draw.js';
import type { Figure } from '../figure.js';
import { heatMap } from '../heat-map.js';

/** Full colour is so many times the even share. */
const FULL = 2.5;

export const load: Figure = {
  id: 'load',
  title: 'Expert load over training',
  reading: `A row is an expert, time runs to the right: an even shade is a balanced layer, a blank row a dead expert, and the full colour ${FULL} times an even share.`,
  numbers: 'runs[].history.load',
  draw({ runs }) {
    return runs.flatMap(({ name, history }) => {
      if (history.load.length === 0) return [];
      const most = Math.max(...history.load.map(({ shares }) => shares[0]?.length ?? 0));
      const cells = history.load.flatMap(({ layer, steps, shares }) =>
        shares.flatMap((row, span) =>
          row.map((share, expert) => ({
            row: expert,
            column: steps[span],
            facet: `layer ${layer}`,
            // In even shares, so that layers of different size shade alike.
            value: share * row.length,
          })),
        ),
      );
      const { steps } = history.load[0];
      // Beside each other as long as the page is wide enough.
      const stacked = history.load.length > 5;
      const ticks = steps.filter((_, i) => (i + 1) % Math.ceil(steps.length / (stacked ? 5 : 4)) === 0);
      const markup = heatMap({
        label: `${name}: share of choices per expert and layer over steps`,
        cells,
        full: FULL,
        rowLabel: 'expert',
        columnLabel: 'step',
        format: (value) => `${value.toFixed(2)} × an even share (${percent(value / most)})`,
        cellWidth: stacked
          ? Math.max(3, 480 / steps.length)
          : Math.max(2, 940 / history.load.length / steps.length),
        cellHeight: Math.max(3, Math.min(14, 200 / most)),
        columnTicks: ticks,
        stacked,
      });
      return [{ caption: name, markup }];
    });
  },
};
