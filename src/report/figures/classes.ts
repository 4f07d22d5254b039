/**
 * Token class × expert maps.
 * @module
 */
import type { ClassMaps } from '../../analyze/index.js';
import { percent } from '../draw.js';
import type { Figure, Panel } from '../figure.js';
import { heatMap } from '../heat-map.js';

const headings: Readonly<Record<ClassMaps['kind'], string>> = {
  language: 'languages',
  script: 'scripts',
  character: 'kinds of characters',
};

export const classes: Figure = {
  id: 'classes',
  title: 'Who handles what',
  reading:
    'A row is a class of tokens and adds up to 100 %; dark cells are experts that serve the class. The number above each layer is the mutual information of class and expert: 0 if experts ignore the class, 1 if one tells the other.',
  numbers: 'runs[].routing.classes',
  draw({ runs }) {
    return runs.flatMap(({ name, routing }): Panel[] =>
      (routing?.classes ?? []).flatMap(({ kind, classes: names, layers }) => {
        if (names.length < 2) return [];
        const cells = layers.flatMap(({ layer, counts, mutualInformation }) =>
          counts.flatMap((row, i) => {
            const total = row.reduce((a, b) => a + b, 0);
            return row.map((count, column) => ({
              row: names[i],
              column,
              facet: `layer ${layer} · ${mutualInformation.toFixed(2)}`,
              value: total === 0 ? 0 : count / total,
            }));
          }),
        );
        const experts = Math.max(...layers.map(({ counts }) => counts[0].length));
        const markup = heatMap({
          label: `${name}: share of each class per expert, by ${headings[kind]}`,
          cells,
          full: 0.8,
          rowLabel: kind,
          columnLabel: 'expert',
          format: percent,
          cellWidth: Math.max(4, Math.min(28, 900 / experts / layers.length)),
          cellHeight: 15,
          columnTicks: Array.from({ length: experts }, (_, i) => i).filter(
            (i) => i % Math.ceil(experts / 8) === 0,
          ),
        });
        return [{ caption: runs.length > 1 ? `${name}: ${headings[kind]}` : headings[kind], markup }];
      }),
    );
  },
};
