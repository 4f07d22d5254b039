import fc from 'fast-check';
import { expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/evaluate.js';
import { at, broadcast, tabulate } from '../../../test/support/nd.js';
import {
  broadcastable,
  floats,
  operatorTest,
  seeds,
  type Sample,
} from '../../../test/support/operator-check.js';
import { compile } from '../../runtime/index.js';
import { gradients, input, matmul, sum, transpose } from '../index.js';

const size = fc.oneof(
  { weight: 9, arbitrary: fc.integer({ min: 1, max: 4 }) },
  { weight: 1, arbitrary: fc.constant(0) },
);

const samples: fc.Arbitrary<Sample> = fc
  .record({
    batches: broadcastable(2, { maxRank: 2 }),
    rows: size,
    inner: size,
    columns: size,
    transposeA: fc.boolean(),
    transposeB: fc.boolean(),
    scale: fc.constantFrom(1, 1, 0.3, -2),
    seed: seeds,
  })
  .map(({ batches: [a, b], rows, inner, columns, transposeA, transposeB, scale, seed }) => ({
    operands: [
      floats(seed, [...a, ...(transposeA ? [inner, rows] : [rows, inner])]),
      floats(seed + 1, [...b, ...(transposeB ? [columns, inner] : [inner, columns])]),
    ],
    build: ([x, y]) => matmul(x, y, { transposeA, transposeB, scale }),
    reference: ([x, y]) =>
      tabulate([...broadcast(a, b), rows, columns], (index) => {
        const [i, j] = index.slice(-2) as [number, number];
        const batch = index.slice(0, -2);
        let total = 0;
        for (let k = 0; k < inner; k++) {
          const left = at(x, [...batch, ...(transposeA ? [k, i] : [i, k])]);
          total += left * at(y, [...batch, ...(transposeB ? [j, k] : [k, j])]);
        }
        return scale * total;
      }),
  }));

operatorTest('matmul: batches, broadcast, transposes, scale, empty axes', samples, 40);

test('an expert without tokens: the weight gradient of a product over nothing is 0', async () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const x = input('x', dtype, ['tokens', 3]);
    const weight = input('weight', dtype, [3, 2]);
    const [gradient] = gradients(sum(matmul(x, weight)), [weight]);
    const array = dtype === 'float32' ? Float32Array : Float64Array;
    expect(await numbersOf(gradient, { x: new array(0) })).toEqual([0, 0, 0, 0, 0, 0]);
  }
});

test('batches of products over nothing are 0 in every batch, whatever the buffer held before', async () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const array = dtype === 'float32' ? Float32Array : Float64Array;
    for (const inner of [0, 'tokens']) {
      for (const scale of [1, 0.5]) {
        const x = input('x', dtype, [2, inner, 2]);
        const products = {
          fused: matmul(x, x, { transposeA: true, scale }),
          fusedByRuntime: matmul(transpose(x, [0, 2, 1]), x, { scale }),
          plain: matmul(input('y', dtype, [2, 2, inner]), x, { scale }),
        };
        const program = await compile(products);
        for (const name of Object.keys(products)) program.bindOutput(name, new array(8).fill(7));
        const results = await program.run({ x: new array(0), y: new array(0) });
        for (const [name, values] of Object.entries(results)) expect(values, name).toEqual(new array(8));
        if (inner === 'tokens') {
          const ones = { x: new array(12).fill(1), y: new array(12).fill(1) };
          for (const values of Object.values(await program.run(ones))) {
            expect(values).toEqual(new array(8).fill(3 * scale));
          }
        }
        await program.release();
      }
    }
  }
});
