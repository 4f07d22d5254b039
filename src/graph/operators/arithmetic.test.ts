import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../../test/support/evaluate.js';
import { at, broadcast, tabulate, type Nd } from '../../../test/support/nd.js';
import {
  broadcastable,
  distinct,
  floats,
  nonZero,
  operatorTest,
  seeds,
  shapes,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';
import type { Tensor } from '../index.js';

type Fill = (seed: number, shape: readonly number[]) => ReturnType<typeof floats>;

function binary(
  build: (a: Tensor, b: Tensor) => Tensor,
  formula: (a: number, b: number) => number,
  [first, second]: readonly [Fill, Fill] = [floats, floats],
): fc.Arbitrary<Sample> {
  return fc.tuple(broadcastable(2, { minSize: 0 }), seeds).map(([[a, b], seed]) => ({
    operands: [first(seed, a), second(seed + 1, b)],
    build: ([x, y]) => build(x, y),
    reference: ([x, y]) =>
      tabulate(broadcast(x.shape, y.shape), (index) => formula(at(x, index), at(y, index))),
  }));
}

function unary(
  build: (x: Tensor) => Tensor,
  formula: (x: number) => number,
  fill: Fill = floats,
): fc.Arbitrary<Sample> {
  return fc.tuple(shapes({ minSize: 0 }), seeds).map(([shape, seed]) => ({
    operands: [fill(seed, shape)],
    build: ([x]) => build(x),
    reference: ([x]) => tabulate(x.shape, (index) => formula(at(x, index))),
  }));
}

const positive: Fill = (seed, shape) => floats(seed, shape, 0.3, 2);
const otherLane: Fill = (seed, shape) => distinct(seed, shape, 1);

describe('binary operators', () => {
  operatorTest(
    'add',
    binary(graph.add, (a, b) => a + b),
  );
  operatorTest(
    'subtract',
    binary(graph.subtract, (a, b) => a - b),
  );
  operatorTest(
    'multiply',
    binary(graph.multiply, (a, b) => a * b),
  );
  // Divisors stay away from the pole at 0.
  operatorTest(
    'divide',
    binary(graph.divide, (a, b) => a / b, [floats, (s, shape) => nonZero(s, shape, 0.4)]),
  );
  // A general exponent needs a base above 0.
  operatorTest(
    'power',
    binary(graph.power, (a, b) => a ** b, [positive, floats]),
  );
  // The two operands come from interleaved grids: a tie is a kink.
  operatorTest('maximum', binary(graph.maximum, Math.max, [distinct, otherLane]));
  operatorTest('minimum', binary(graph.minimum, Math.min, [distinct, otherLane]));
  operatorTest(
    'a number as operand',
    binary(
      (a, b) => graph.add(graph.subtract(2, a), graph.multiply(b, 3)),
      (a, b) => 2 - a + 3 * b,
    ),
  );
  operatorTest(
    'one tensor on both sides',
    unary(
      (x) => graph.divide(graph.multiply(x, x), x),
      (x) => x,
      nonZero,
    ),
  );
});

describe('unary operators', () => {
  operatorTest(
    'negate',
    unary(graph.negate, (x) => -x),
  );
  // |x| and sign(x) have their kink at 0, floor at every whole number.
  operatorTest('abs', unary(graph.abs, Math.abs, nonZero));
  operatorTest('sign', unary(graph.sign, Math.sign, nonZero));
  operatorTest(
    'floor',
    unary(graph.floor, Math.floor, (s, shape) => floats(s, shape, 0.1, 0.9)),
  );
  operatorTest('sqrt', unary(graph.sqrt, Math.sqrt, positive));
  operatorTest(
    'reciprocal',
    unary(
      graph.reciprocal,
      (x) => 1 / x,
      (s, shape) => nonZero(s, shape, 0.4),
    ),
  );
  operatorTest('exp', unary(graph.exp, Math.exp));
  operatorTest('log', unary(graph.log, Math.log, positive));
  operatorTest(
    'sin',
    unary(graph.sin, Math.sin, (s, shape) => floats(s, shape, -4, 4)),
  );
  operatorTest(
    'cos',
    unary(graph.cos, Math.cos, (s, shape) => floats(s, shape, -4, 4)),
  );
  operatorTest(
    'square',
    unary(graph.square, (x) => x * x),
  );
  // A constant exponent works for any base, negative ones too.
  operatorTest(
    'power 3',
    unary(
      (x) => graph.power(x, 3),
      (x) => x ** 3,
    ),
  );
  operatorTest(
    'cast',
    unary(
      (x) => graph.cast(graph.cast(x, 'float64'), x.dtype),
      (x) => x,
    ),
  );
});

operatorTest(
  'where',
  fc.tuple(broadcastable(3, { minSize: 0 }), seeds).map(([[condition, a, b], seed]) => {
    const mask = floats(seed + 2, condition);
    return {
      operands: [floats(seed, a), floats(seed + 1, b)],
      build: ([x, y]: readonly Tensor[], dtype) =>
        graph.where(graph.greater(graph.constant(dtype, mask.shape, mask.data!), 0), x, y),
      reference: ([x, y]: readonly Nd[]) =>
        tabulate(broadcast(mask.shape, x.shape, y.shape), (index) =>
          at(mask as Nd, index) > 0 ? at(x, index) : at(y, index),
        ),
    } satisfies Sample;
  }),
);

test('a power with a constant exponent has a finite gradient at 0', async () => {
  const x = graph.input('x', 'float64', [3]);
  const [gradient] = graph.gradients(graph.sum(graph.power(x, 2)), [x]);
  expect(await numbersOf(gradient, { x: Float64Array.of(-1, 0, 2) })).toEqual([-2, 0, 4]);
});

test('at a tie the gradient of maximum and minimum goes to the first operand', async () => {
  const [a, b] = ['a', 'b'].map((name) => graph.input(name, 'float32', [1])) as [Tensor, Tensor];
  for (const operator of [graph.maximum, graph.minimum]) {
    const [forA, forB] = graph.gradients(graph.sum(operator(a, b)), [a, b]);
    const one = Float32Array.of(1);
    expect(await evaluate({ forA: forA, forB: forB }, { a: one, b: one })).toEqual({
      forA: Float32Array.of(1),
      forB: Float32Array.of(0),
    });
  }
});

test('comparisons and logic follow JavaScript, element by element', async () => {
  const values = [-1, 0, 0.5, 2];
  for (const dtype of ['float32', 'float64'] as const) {
    const array = dtype === 'float32' ? Float32Array : Float64Array;
    const a = graph.input('a', dtype, [4, 1]);
    const b = graph.input('b', dtype, [4]);
    const less = graph.less(a, b);
    const equal = graph.equal(a, b);
    const results = await evaluate(
      {
        less,
        equal,
        lessEqual: graph.lessEqual(a, b),
        greater: graph.greater(a, b),
        greaterEqual: graph.greaterEqual(a, b),
        and: graph.logicalAnd(graph.lessEqual(a, b), graph.greaterEqual(a, b)),
        or: graph.logicalOr(less, equal),
        not: graph.logicalNot(less),
        chosen: graph.where(less, equal, graph.logicalNot(equal)),
      },
      { a: array.from(values), b: array.from(values) },
    );
    const expected = (f: (x: number, y: number) => boolean): Uint8Array =>
      Uint8Array.from(values.flatMap((x) => values.map((y) => Number(f(x, y)))));
    expect(results).toEqual({
      less: expected((x, y) => x < y),
      equal: expected((x, y) => x === y),
      lessEqual: expected((x, y) => x <= y),
      greater: expected((x, y) => x > y),
      greaterEqual: expected((x, y) => x >= y),
      and: expected((x, y) => x === y),
      or: expected((x, y) => x <= y),
      not: expected((x, y) => x >= y),
      chosen: expected((x, y) => (x < y ? x === y : x !== y)),
    });
  }
});

test('integer arithmetic: quotients are cut, remainders take the sign of the divisor', async () => {
  const a = graph.input('a', 'int64', [4]);
  const b = graph.input('b', 'int64', [4]);
  const feeds = { a: BigInt64Array.of(7n, -7n, 7n, -7n), b: BigInt64Array.of(2n, 2n, -2n, -2n) };
  const results = await evaluate(
    {
      divide: graph.divide(a, b),
      modulo: graph.modulo(a, b),
      larger: graph.maximum(a, b),
      power: graph.power(a, 2),
      negative: graph.negate(graph.abs(a)),
      sign: graph.sign(a),
      chosen: graph.where(graph.equal(b, 2), a, 0),
    },
    feeds,
  );
  expect(results).toEqual({
    divide: BigInt64Array.of(3n, -3n, -3n, 3n),
    modulo: BigInt64Array.of(1n, 1n, -1n, -1n),
    larger: BigInt64Array.of(7n, 2n, 7n, -2n),
    power: BigInt64Array.of(49n, 49n, 49n, 49n),
    negative: BigInt64Array.of(-7n, -7n, -7n, -7n),
    sign: BigInt64Array.of(1n, -1n, 1n, -1n),
    chosen: BigInt64Array.of(7n, -7n, 0n, 0n),
  });
});

test('casts: to and from every dtype', async () => {
  const x = graph.input('x', 'float32', [4]);
  const feeds = { x: Float32Array.of(-1.75, 0, 0.5, 3.25) };
  const results = await evaluate(
    {
      int64: graph.cast(x, 'int64'),
      int32: graph.cast(x, 'int32'),
      bool: graph.cast(x, 'bool'),
      back: graph.cast(graph.cast(x, 'bool'), 'float64'),
      double: graph.cast(x, 'float64'),
    },
    feeds,
  );
  expect(results).toEqual({
    int64: BigInt64Array.of(-1n, 0n, 0n, 3n),
    int32: Int32Array.of(-1, 0, 0, 3),
    bool: Uint8Array.of(1, 0, 1, 1),
    back: Float64Array.of(1, 0, 1, 1),
    double: Float64Array.of(-1.75, 0, 0.5, 3.25),
  });
});

test('a gradient does not cross a cast to integers', async () => {
  const x = graph.input('x', 'float64', [2]);
  const steps = graph.cast(graph.cast(x, 'int64'), 'float64');
  const [gradient] = graph.gradients(graph.sum(graph.multiply(x, steps)), [x]);
  expect(await numbersOf(gradient, { x: Float64Array.of(2.5, 3.5) })).toEqual([2, 3]);
});
