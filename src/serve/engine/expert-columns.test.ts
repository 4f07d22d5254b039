import fc from 'fast-check';
import { expect, test } from 'vitest';
import { combineColumns, gatherColumns } from './expert-columns.js';
import { groupChoices } from './grouped-choices.js';

test('rows go to the columns of their experts, and weighted outputs come back, whatever the choices', () => {
  const choice = fc.integer({ min: -1, max: 4 });
  const sizes = fc.record({ topK: fc.integer({ min: 1, max: 3 }), width: fc.integer({ min: 1, max: 37 }) });
  fc.assert(
    fc.property(
      sizes,
      fc.array(fc.array(choice, { minLength: 3, maxLength: 3 })),
      ({ topK, width }, drawn) => {
        const experts = Int32Array.from(drawn.flatMap((row) => row.slice(0, topK)));
        const rows = Float32Array.from({ length: drawn.length * width }, (_, i) => Math.sin(i));
        const gates = Float32Array.from(experts, (_, i) => Math.cos(i));
        const grouped = groupChoices(experts, 5);
        expect(grouped.experts).toEqual([...new Set(experts)].filter((e) => e >= 0).sort());

        // Expert e multiplies by e + 1.
        const columns = new Float32Array(grouped.choices.length * width);
        gatherColumns(rows, grouped, topK, width, columns);
        grouped.experts.forEach((expert, at) => {
          const [from, to] = [grouped.starts[at] * width, grouped.starts[at + 1] * width];
          for (let i = from; i < to; i++) columns[i] *= expert + 1;
        });
        const found = new Float32Array(rows.length).fill(NaN);
        combineColumns(columns, grouped, gates, topK, width, found);

        drawn.forEach((_, token) => {
          for (let i = 0; i < width; i++) {
            let sum: number | undefined;
            for (let k = 0; k < topK; k++) {
              const expert = experts[token * topK + k];
              if (expert < 0) continue;
              const output = Math.fround(rows[token * width + i] * (expert + 1));
              const term = Math.fround(gates[token * topK + k] * output);
              sum = sum === undefined ? term : Math.fround(sum + term);
            }
            expect(found[token * width + i]).toBe(sum ?? 0);
          }
        });
      },
    ),
  );
});

test('experts that do not exist are refused', () => {
  expect(() => groupChoices(Int32Array.of(0, 5), 5)).toThrow('there is no expert 5: choose 0 … 4');
});
