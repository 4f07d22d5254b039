/**
 * Which experts are chosen together (σ-MoE §10).
 * @module
 */
import { percent } from '../draw.js';
import type { Figure } from '../figure.js';
import { heatMap } from '../heat-map.js';

export const coOccurrence: Figure = {
  id: 'co-occurrence',
  title: 'Co-occurrence of experts',
  reading:
    'A row says with whom its expert was chosen; spread rows mean free combinations, blocks mean groups of experts that act as one.',
  numbers: 'runs[].routing.profiles[].coOccurrence',
  draw({ runs }) {
    return runs.flatMap(({ name, routing }) =>
      (routing?.profiles ?? []).flatMap(({ layer, numExperts, coOccurrence: map }) => {
        if (!map) return [];
        const cells = map.flatMap((row, i) => row.map((value, column) => ({ row: i, column, value })));
        const size = Math.max(4, Math.min(26, 260 / numExperts));
        const markup = heatMap({
          label: `${name}, layer ${layer}: co-occurrence of experts`,
          cells,
          full: Math.max(2 / numExperts, ...map.flat()),
          rowLabel: 'expert',
          columnLabel: 'with expert',
          format: percent,
          cellWidth: size,
          cellHeight: size,
          columnTicks: map.map((_, i) => i).filter((i) => i % Math.ceil(numExperts / 8) === 0),
        });
        return [{ caption: `${name}, layer ${layer}`, markup }];
      }),
    );
  },
};
