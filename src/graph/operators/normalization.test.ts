import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluate } from '../../../test/support/evaluate.js';
import { at, replaced, tabulate, type Nd } from '../../../test/support/nd.js';
import { floats, operatorTest, seeds, shapes, type Sample } from '../../../test/support/operator-check.js';
import { gradients, input, layerNorm, rmsNorm, square, sum, type Tensor } from '../index.js';

function row(x: Nd, index: readonly number[]): number[] {
  const last = x.shape.length - 1;
  return Array.from({ length: x.shape[last]! }, (_, i) => at(x, replaced(index, last, i)));
}

const average = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

// A row of one element has variance 0: with a tiny epsilon its gradient is ill-conditioned, so epsilon is not tiny.
const epsilons = fc.constantFrom(1e-3, 0.1);

// Short rows whose elements nearly agree make the float32 gradient lose digits: rows spread over ±1.
const samples = fc.tuple(shapes({ minRank: 1, maxSize: 5, minSize: 1 }), epsilons, seeds);

operatorTest(
  'rmsNorm',
  samples.map(([shape, epsilon, seed]): Sample => ({
    operands: [floats(seed, shape), floats(seed + 1, shape.slice(-1), 0.5, 1.5)],
    build: ([x, weight]) => rmsNorm(x!, weight!, epsilon),
    reference: ([x, weight]) =>
      tabulate(shape, (index) => {
        const scale = Math.sqrt(average(row(x!, index).map((value) => value ** 2)) + epsilon);
        return (at(weight!, index.slice(-1)) * at(x!, index)) / scale;
      }),
  })),
  20,
);

operatorTest(
  'layerNorm',
  samples.map(([shape, epsilon, seed]): Sample => ({
    operands: [
      floats(seed, shape),
      floats(seed + 1, shape.slice(-1), 0.5, 1.5),
      floats(seed + 2, shape.slice(-1)),
    ],
    build: ([x, weight, bias]) => layerNorm(x!, weight!, bias!, epsilon),
    reference: ([x, weight, bias]) =>
      tabulate(shape, (index) => {
        const values = row(x!, index);
        const centre = average(values);
        const scale = Math.sqrt(average(values.map((value) => (value - centre) ** 2)) + epsilon);
        const last = index.slice(-1);
        return (at(weight!, last) * (at(x!, index) - centre)) / scale + at(bias!, last);
      }),
  })),
  20,
);

test('no rows: empty results and zero gradients for the weights', async () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const array = dtype === 'float32' ? Float32Array : Float64Array;
    const x = input('x', dtype, ['rows', 3]);
    const weight = input('weight', dtype, [3]);
    const bias = input('bias', dtype, [3]);
    for (const [parameters, y] of [
      [[weight], rmsNorm(x, weight)],
      [[weight, bias], layerNorm(x, weight, bias)],
    ] as const) {
      const derived = gradients(sum(y), parameters);
      const results = await evaluate(
        { y, ...Object.fromEntries(derived.map((g, i) => [`g${i}`, g])) } as Record<string, Tensor>,
        { x: new array(0), weight: new array(3), ...(parameters.length > 1 ? { bias: new array(3) } : {}) },
      );
      expect(results['y']).toHaveLength(0);
      derived.forEach((_, i) => expect(results[`g${i}`]).toEqual(new array(3)));
    }
  }
});

test('second derivatives are refused, not silently wrong', () => {
  const x = input('x', 'float64', [2, 3]);
  const weight = input('weight', 'float64', [3]);
  for (const y of [rmsNorm(x, weight), layerNorm(x, weight, weight)]) {
    const [first] = gradients(sum(square(y)), [x]);
    expect(() => gradients(sum(square(first!)), [x])).toThrow(/second derivatives are not available/);
  }
});
