import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../../test/support/evaluate.js';
import { at, replaced, tabulate, type Nd } from '../../../test/support/nd.js';
import {
  distinct,
  floats,
  operatorTest,
  seeds,
  shapes,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';
import type { Axes, Tensor } from '../index.js';

/** Elements of `x` that a reduction over `axes` folds into one output element. */
function* folded(x: Nd, axes: readonly number[], kept: readonly number[]): Generator<number> {
  const [axis, ...rest] = axes;
  if (axis === undefined) {
    yield at(x, kept);
    return;
  }
  for (let i = 0; i < x.shape[axis]!; i++) yield* folded(x, rest, replaced(kept, axis, i));
}

function reduction(
  build: (x: Tensor, axes: Axes, keepDims: boolean) => Tensor,
  fold: (values: number[]) => number,
  { minSize = 0, fill = floats as typeof floats | typeof distinct } = {},
): fc.Arbitrary<Sample> {
  return shapes({ minSize }).chain((shape) =>
    fc
      .tuple(fc.subarray(shape.map((_, axis) => axis)), fc.boolean(), fc.boolean(), fc.boolean(), seeds)
      .map(([some, all, keepDims, negative, seed]) => {
        const axes = all ? shape.map((_, axis) => axis) : some;
        const named = negative ? axes.map((axis) => axis - shape.length) : axes;
        const fullShape = shape.map((size, axis) => (axes.includes(axis) ? 1 : size));
        return {
          operands: [fill(seed, shape)],
          build: ([x]) => build(x!, all ? undefined : named, keepDims),
          reference: ([x]) => {
            const { data } = tabulate(fullShape, (index) => fold([...folded(x!, axes, index)]));
            return { shape: keepDims ? fullShape : shape.filter((_, axis) => !axes.includes(axis)), data };
          },
        } satisfies Sample;
      }),
  );
}

/** An operator along one axis of `x`: `fold` maps a whole line to a whole line. */
function alongAxis(
  build: (x: Tensor, axis: number) => Tensor,
  fold: (line: number[]) => number[],
): fc.Arbitrary<Sample> {
  return shapes({ minRank: 1, maxSize: 4 }).chain((shape) =>
    fc.tuple(fc.integer({ min: -shape.length, max: shape.length - 1 }), seeds).map(([axis, seed]) => ({
      operands: [floats(seed, shape, -3, 3)],
      build: ([x]) => build(x!, axis),
      reference: ([x]) => {
        const along = (axis + shape.length) % shape.length;
        return tabulate(shape, (index) => fold([...folded(x!, [along], index)])[index[along]!]!);
      },
    })),
  );
}

const total = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const logSumExp = (values: readonly number[]): number => Math.log(total(values.map(Math.exp)));

describe('reductions', () => {
  operatorTest('sum', reduction(graph.sum, total));
  operatorTest(
    'mean',
    reduction(graph.mean, (values) => total(values) / Math.max(1, values.length)),
  );
  // Ties are kinks of max and min: all numbers differ. There is no largest of nothing: no axis of size 0.
  operatorTest(
    'max',
    reduction(graph.max, (values) => Math.max(...values), { minSize: 1, fill: distinct }),
  );
  operatorTest(
    'min',
    reduction(graph.min, (values) => Math.min(...values), { minSize: 1, fill: distinct }),
  );
});

describe('along an axis', () => {
  operatorTest(
    'softmax',
    alongAxis(graph.softmax, (line) => line.map((x) => Math.exp(x - logSumExp(line)))),
  );
  operatorTest(
    'logSoftmax',
    alongAxis(graph.logSoftmax, (line) => line.map((x) => x - logSumExp(line))),
  );
  operatorTest(
    'logSumExp',
    alongAxis(
      (x, axis) => graph.add(graph.multiply(x, 0), restoreAxis(graph.logSumExp(x, axis), x, axis)),
      (line) => line.map(() => logSumExp(line)),
    ),
  );
  for (const exclusive of [false, true]) {
    for (const reverse of [false, true]) {
      operatorTest(
        `cumulativeSum${exclusive ? ' exclusive' : ''}${reverse ? ' reverse' : ''}`,
        alongAxis(
          (x, axis) => graph.cumulativeSum(x, axis, { exclusive, reverse }),
          (line) =>
            line.map((_, i) =>
              total(line.filter((_x, j) => (reverse ? j > i : j < i) || (!exclusive && j === i))),
            ),
        ),
        4,
      );
    }
  }
});

function restoreAxis(reduced: Tensor, x: Tensor, axis: number): Tensor {
  const along = (axis + x.rank) % x.rank;
  return graph.reshape(
    reduced,
    x.shape.map((size, i) => (i === along ? 1 : size)),
  );
}

test('a tie shares the gradient of max equally', async () => {
  const x = graph.input('x', 'float32', [2, 3]);
  const [gradient] = graph.gradients(graph.sum(graph.max(x, 1)), [x]);
  expect(await numbersOf(gradient!, { x: Float32Array.of(2, 1, 2, 5, 4, 3) })).toEqual([
    0.5, 0, 0.5, 1, 0, 0,
  ]);
});

test('logSumExp and logSoftmax stand numbers whose exponentials overflow', async () => {
  const x = graph.input('x', 'float32', [3]);
  const feeds = { x: Float32Array.of(1000, 1000, -1000) };
  expect(await numbersOf(graph.logSumExp(x), feeds)).toEqual([expect.closeTo(1000 + Math.LN2, 3)]);
  const [gradient] = graph.gradients(graph.logSumExp(x), [x]);
  expect(await numbersOf(gradient!, feeds)).toEqual([expect.closeTo(0.5, 6), expect.closeTo(0.5, 6), 0]);
  const [, , smallest] = await numbersOf(graph.logSoftmax(x), feeds);
  expect(smallest).toBeCloseTo(-2000 - Math.LN2, 3);
});

test('reductions over run-time sizes; the mean of nothing is 0 with a finite gradient', async () => {
  const x = graph.input('x', 'float64', [5, 2]);
  const counts = graph.input('counts', 'int64', [2]);
  const [a, b] = graph.split(x, ['first', 'second'], 0, counts);
  const means = graph.stack([graph.mean(a!, 0), graph.mean(b!, 0)]);
  const [gradient] = graph.gradients(graph.sum(graph.multiply(means, means)), [x]);
  const outputs = { means, gradient: gradient!, whole: graph.mean(b!) };
  const data = Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
  expect(await evaluate(outputs, { x: data, counts: BigInt64Array.of(0n, 5n) })).toEqual({
    means: Float64Array.of(0, 0, 5, 6),
    gradient: Float64Array.of(2, 2.4, 2, 2.4, 2, 2.4, 2, 2.4, 2, 2.4),
    whole: Float64Array.of(5.5),
  });
  expect((await evaluate(outputs, { x: data, counts: BigInt64Array.of(4n, 1n) })).means).toEqual(
    Float64Array.of(4, 5, 9, 10),
  );
});

test('integers add up and compare as well', async () => {
  const x = graph.input('x', 'int64', [2, 2]);
  const feeds = { x: BigInt64Array.of(3n, -1n, 4n, 1n) };
  expect(
    await evaluate(
      { sum: graph.sum(x, 0), max: graph.max(x), min: graph.min(x, 1), running: graph.cumulativeSum(x, 1) },
      feeds,
    ),
  ).toEqual({
    sum: BigInt64Array.of(7n, 0n),
    max: BigInt64Array.of(4n),
    min: BigInt64Array.of(-1n, 1n),
    running: BigInt64Array.of(3n, 2n, 4n, 5n),
  });
});
