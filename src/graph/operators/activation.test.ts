import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/evaluate.js';
import { at, tabulate } from '../../../test/support/nd.js';
import {
  floats,
  nonZero,
  operatorTest,
  seeds,
  shapes,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';
import type { Tensor } from '../index.js';

/** Error function by its series, for |x| below 5: another method than the operator's. */
function erf(x: number): number {
  let term = x;
  let total = x;
  for (let n = 1; n < 200; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

function activation(
  build: (x: Tensor) => Tensor,
  formula: (x: number) => number,
  fill: (seed: number, shape: readonly number[]) => ReturnType<typeof floats> = (seed, shape) =>
    floats(seed, shape, -3, 3),
): fc.Arbitrary<Sample> {
  return fc.tuple(shapes({ minSize: 0 }), seeds).map(([shape, seed]) => ({
    operands: [fill(seed, shape)],
    build: ([x]) => build(x),
    reference: ([x]) => tabulate(x.shape, (index) => formula(at(x, index))),
  }));
}

describe('activations', () => {
  operatorTest('sigmoid', activation(graph.sigmoid, sigmoid));
  operatorTest('tanh', activation(graph.tanh, Math.tanh));
  // The kink of relu at 0 is left out; softplus has none, though its parts do.
  operatorTest(
    'relu',
    activation(graph.relu, (x) => Math.max(x, 0), nonZero),
  );
  operatorTest('erf', activation(graph.erf, erf));
  operatorTest(
    'gelu',
    activation(graph.gelu, (x) => (x * (1 + erf(x / Math.SQRT2))) / 2),
  );
  operatorTest(
    'geluTanh',
    activation(
      graph.geluTanh,
      (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    ),
  );
  operatorTest(
    'silu',
    activation(graph.silu, (x) => x * sigmoid(x)),
  );
  operatorTest(
    'softplus',
    activation(graph.softplus, (x) => Math.log1p(Math.exp(x))),
  );
});

test('softplus: no overflow far out, and the gradient at 0 is 1/2', async () => {
  for (const dtype of ['float32', 'float64'] as const) {
    const x = graph.input('x', dtype, [4]);
    const [gradient] = graph.gradients(graph.sum(graph.softplus(x)), [x]);
    const feeds = {
      x: dtype === 'float32' ? Float32Array.of(-1000, 0, 30, 1000) : Float64Array.of(-1000, 0, 30, 1000),
    };
    expect(await numbersOf(gradient, feeds)).toEqual([0, 0.5, expect.closeTo(1, 6), 1]);
    expect(await numbersOf(graph.softplus(x), feeds)).toEqual([
      0,
      expect.closeTo(Math.LN2, 6),
      expect.closeTo(30, 5),
      1000,
    ]);
  }
});

test('the gradient of relu at 0 is 0', async () => {
  const x = graph.input('x', 'float32', [2]);
  const [gradient] = graph.gradients(graph.sum(graph.relu(x)), [x]);
  expect(await numbersOf(gradient, { x: Float32Array.of(0, -0) })).toEqual([0, 0]);
});

test('erf in float64 is accurate to 1e-15 from the middle to the tails', async () => {
  const x = graph.input('x', 'float64', [5]);
  const [zero, ...values] = await numbersOf(graph.erf(x), { x: Float64Array.of(0, 1e-8, 1, -2, 30) });
  expect(zero).toBe(0);
  // Reference values with 17 digits.
  [1.1283791670955126e-8, 0.84270079294971487, -0.99532226501895273, 1].forEach((expected, i) =>
    expect(Math.abs(values[i] - expected)).toBeLessThan(1e-15),
  );
});
