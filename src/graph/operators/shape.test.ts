import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../../test/support/evaluate.js';
import { at, replaced, tabulate } from '../../../test/support/nd.js';
import {
  broadcastable,
  floats,
  operatorTest,
  seeds,
  shapes,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';
import { place } from './shape.js';

/** A shape with one of its axes. */
const shapeAndAxis = shapes({ minRank: 1, maxSize: 4, minSize: 0 }).chain((shape) =>
  fc.record({ shape: fc.constant(shape), axis: fc.nat({ max: shape.length - 1 }), seed: seeds }),
);

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

describe('moving numbers', () => {
  operatorTest(
    'reshape',
    fc
      .tuple(shapes({ minSize: 0 }), fc.constantFrom('flat', 'reversed', 'halves'), seeds)
      .map(([shape, kind, seed]): Sample => {
        const size = product(shape);
        const target =
          kind === 'reversed'
            ? [...shape].reverse()
            : kind === 'flat'
              ? [-1]
              : size % 2 === 0
                ? [2, size / 2]
                : [1, -1];
        return {
          operands: [floats(seed, shape)],
          build: ([x]) => graph.reshape(x, target),
          reference: ([x]) => ({ shape: target.map((dim) => (dim === -1 ? size : dim)), data: x.data }),
        };
      }),
  );
  operatorTest(
    'transpose',
    shapes({ minSize: 0 }).chain((shape) =>
      fc
        .tuple(
          fc.shuffledSubarray(
            shape.map((_, axis) => axis),
            { minLength: shape.length },
          ),
          fc.boolean(),
          seeds,
        )
        .map(([order, reversed, seed]): Sample => {
          const axes = reversed ? shape.map((_, axis) => shape.length - 1 - axis) : order;
          return {
            operands: [floats(seed, shape)],
            build: ([x]) => (reversed ? graph.transpose(x) : graph.transpose(x, order)),
            reference: ([x]) =>
              tabulate(
                axes.map((axis) => shape[axis]),
                (index) =>
                  at(
                    x,
                    shape.map((_, axis) => index[axes.indexOf(axis)]),
                  ),
              ),
          };
        }),
    ),
  );
  operatorTest(
    'broadcastTo',
    fc.tuple(broadcastable(1), shapes({ maxRank: 1 }), seeds).map(([[from], extra, seed]): Sample => {
      const to = [...extra, ...from.map((size) => (size === 1 ? 3 : size))];
      return {
        operands: [floats(seed, from)],
        build: ([x]) => graph.broadcastTo(x, to),
        reference: ([x]) => tabulate(to, (index) => at(x, index)),
      };
    }),
  );
  operatorTest(
    'slice',
    fc
      .tuple(shapeAndAxis, fc.nat(4), fc.nat(4), fc.integer({ min: 1, max: 3 }))
      .map(([{ shape, axis, seed }, a, b, step]): Sample => {
        const [start, end] = [a, b].map((x) => Math.min(x, shape[axis])).sort() as [number, number];
        return {
          operands: [floats(seed, shape)],
          build: ([x]) => graph.slice(x, axis - shape.length, start, end, step),
          reference: ([x]) =>
            tabulate(replaced(shape, axis, Math.ceil((end - start) / step)), (index) =>
              at(x, replaced(index, axis, start + index[axis] * step)),
            ),
        };
      }),
    20,
  );
  operatorTest(
    'pad',
    fc.tuple(shapeAndAxis, fc.nat(2), fc.nat(2)).map(([{ shape, axis, seed }, before, after]): Sample => ({
      operands: [floats(seed, shape)],
      build: ([x]) => graph.pad(x, axis, before, after),
      reference: ([x]) =>
        tabulate(replaced(shape, axis, before + shape[axis] + after), (index) => {
          const from = index[axis] - before;
          return from < 0 || from >= shape[axis] ? 0 : at(x, replaced(index, axis, from));
        }),
    })),
    15,
  );
  operatorTest(
    'place undoes slice',
    fc
      .tuple(shapeAndAxis, fc.nat(2), fc.integer({ min: 1, max: 3 }), fc.nat(2))
      .map(([{ shape, axis, seed }, start, step, extra]): Sample => {
        const count = shape[axis];
        const size = start + Math.max(0, (count - 1) * step + 1) + extra;
        return {
          operands: [floats(seed, shape)],
          build: ([x]) => place(x, axis, start, step, size),
          reference: ([x]) =>
            tabulate(replaced(shape, axis, size), (index) => {
              const from = (index[axis] - start) / step;
              return Number.isInteger(from) && from >= 0 && from < count
                ? at(x, replaced(index, axis, from))
                : 0;
            }),
        };
      }),
    15,
  );
});

describe('taking apart and joining', () => {
  operatorTest(
    'concat',
    fc
      .tuple(shapeAndAxis, fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }))
      .map(([{ shape, axis, seed }, sizes]): Sample => ({
        operands: sizes.map((size, i) => floats(seed + i, replaced(shape, axis, size))),
        build: (pieces) => graph.concat(pieces, axis),
        reference: (pieces) =>
          tabulate(
            replaced(
              shape,
              axis,
              sizes.reduce((a, b) => a + b),
            ),
            (index) => {
              let position = index[axis];
              const piece = pieces.find((_, i) => position < sizes[i] || ((position -= sizes[i]), false));
              return at(piece!, replaced(index, axis, position));
            },
          ),
      })),
  );
  operatorTest(
    'split, pieces used twice or not at all',
    fc
      .tuple(shapeAndAxis, fc.array(fc.nat(3), { minLength: 1, maxLength: 4 }), fc.nat(3))
      .map(([{ shape, axis, seed }, sizes, which]): Sample => {
        const chosen = which % sizes.length;
        const start = sizes.slice(0, chosen).reduce((a, b) => a + b, 0);
        return {
          operands: [
            floats(
              seed,
              replaced(
                shape,
                axis,
                sizes.reduce((a, b) => a + b),
              ),
            ),
          ],
          build: ([x]) => {
            const piece = graph.split(x, sizes, axis)[chosen];
            return graph.multiply(piece, piece);
          },
          reference: ([x]) =>
            tabulate(
              replaced(shape, axis, sizes[chosen]),
              (index) => at(x, replaced(index, axis, index[axis] + start)) ** 2,
            ),
        };
      }),
    15,
  );
  operatorTest(
    'stack and unstack',
    fc
      .tuple(shapes({ maxRank: 3, minSize: 0 }), fc.integer({ min: 1, max: 4 }), seeds)
      .map(([shape, pieces, seed]): Sample => ({
        // Reversed on the way, and the first piece is left out of the product.
        operands: [floats(seed, [pieces, ...shape])],
        build: ([x]) => {
          const parts = graph.unstack(graph.multiply(x, 2));
          return graph.multiply(graph.stack([...parts].reverse()), parts[parts.length - 1]);
        },
        reference: ([x]) =>
          tabulate(
            [pieces, ...shape],
            ([first, ...rest]) => 2 * at(x, [pieces - 1 - first, ...rest]) * 2 * at(x, [pieces - 1, ...rest]),
          ),
      })),
  );
});

describe('run-time sizes', () => {
  const data = Float64Array.from({ length: 12 }, (_, i) => i + 1);

  test('split by counts, a function per piece, concat by counts: the gradient finds its way back', async () => {
    const x = graph.input('x', 'float64', [6, 2]);
    const counts = graph.input('counts', 'int64', [3]);
    const pieces = graph.split(x, ['a', 'b', 'c'], 0, counts);
    const scaled = pieces.map((piece, i) => graph.multiply(graph.multiply(piece, piece), i + 1));
    const joined = graph.concat(scaled, 0, { size: 6, counts });
    const [gradient] = graph.gradients(graph.sum(joined), [x]);
    const program = { joined, gradient: gradient };
    for (const sizes of [
      [1, 2, 3],
      [0, 6, 0],
      [6, 0, 0],
      [0, 0, 6],
    ]) {
      const owner = sizes.flatMap((size, i) => new Array<number>(2 * size).fill(i + 1));
      expect(await evaluate(program, { x: data, counts: BigInt64Array.from(sizes, BigInt) })).toEqual({
        joined: data.map((value, i) => value * value * owner[i]),
        gradient: data.map((value, i) => 2 * value * owner[i]),
      });
    }
  });

  test('a piece that nobody reads gets zeros of its own run-time size', async () => {
    const x = graph.input('x', 'float64', [6, 2]);
    const counts = graph.input('counts', 'int64', [2]);
    const [first] = graph.split(x, ['a', 'b'], 0, counts);
    const loss = graph.sum(first);
    const [gradient] = graph.gradients(loss, [x]);
    const feeds = { x: data, counts: BigInt64Array.of(2n, 4n) };
    expect(await evaluate({ loss, gradient: gradient }, feeds)).toEqual({
      loss: Float64Array.of(10),
      gradient: Float64Array.of(1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0),
    });
    // Without the loss nothing cuts x, and nothing knows how long its first piece is.
    await expect(evaluate({ gradient: gradient }, feeds)).rejects.toThrow(
      /size 'a'; fetch a tensor that does/,
    );
  });

  test('without counts, concat names its size after its pieces and split measures them', async () => {
    const a = graph.input('a', 'float64', ['rows']);
    const b = graph.input('b', 'float64', ['more']);
    const joined = graph.concat([a, b, graph.fill('float64', [1], 5)], 0);
    expect(joined.shape).toEqual(['rows+more+1']);
    const [forA, forB] = graph.gradients(graph.sum(graph.multiply(joined, joined)), [a, b]);
    const outputs = { joined, forA: forA, forB: forB, zeros: graph.zerosLike(joined) };
    expect(await evaluate(outputs, { a: Float64Array.of(1, 2), b: Float64Array.of(3) })).toEqual({
      joined: Float64Array.of(1, 2, 3, 5),
      forA: Float64Array.of(2, 4),
      forB: Float64Array.of(6),
      zeros: Float64Array.of(0, 0, 0, 0),
    });
  });

  test('reshape, broadcastTo, fill, range and shapeSize measure the tensor that carries the size', async () => {
    const x = graph.input('x', 'float32', ['rows', 4]);
    const halves = graph.reshape(x, ['rows', 2, 2]);
    const results = await evaluate(
      {
        turned: graph.transpose(halves, [2, 0, 1]),
        flat: graph.reshape(halves, [-1, 4]),
        positions: graph.range('rows'),
        ones: graph.fill('int32', ['rows', 2], 1),
        stretched: graph.broadcastTo(graph.fill('float32', [1, 1], 7), ['rows', 2]),
        count: graph.shapeSize(['rows', 4], x),
      },
      { x: Float32Array.from(data.subarray(0, 8)) },
    );
    expect(results).toEqual({
      turned: Float32Array.of(1, 3, 5, 7, 2, 4, 6, 8),
      flat: Float32Array.from(data.subarray(0, 8)),
      positions: BigInt64Array.of(0n, 1n),
      ones: Int32Array.of(1, 1, 1, 1),
      stretched: Float32Array.of(7, 7, 7, 7),
      count: BigInt64Array.of(8n),
    });
  });

  test('a size is measured on a feed even where a later tensor carries it first', async () => {
    // The fill comes before everything else, and what is made from it is joined to the same run-time size again.
    const x = graph.input('x', 'float64', ['tokens']);
    const counts = graph.input('counts', 'int64', [2]);
    const zeros = graph.fill('float64', ['tokens'], 3);
    const pieces = graph.split(zeros, ['a', 'b'], 0, counts);
    const joined = graph.concat(
      pieces.map((piece) => graph.negate(piece)),
      0,
      { size: 'tokens', counts },
    );
    const result = graph.add(joined, x);
    expect(
      await numbersOf(result, { x: Float64Array.of(1, 2, 3), counts: BigInt64Array.of(1n, 2n) }),
    ).toEqual([-2, -1, 0]);
  });

  test('a size that nothing carries is an error that names it', async () => {
    await expect(evaluate({ y: graph.fill('float32', ['rows'], 1) })).rejects.toThrow(
      /carries the run-time size 'rows'/,
    );
  });
});

test('what changes nothing adds no node', () => {
  const x = graph.input('x', 'float32', [2, 3]);
  expect(graph.reshape(x, [2, -1])).toBe(x);
  expect(graph.transpose(x, [0, 1])).toBe(x);
  expect(graph.broadcastTo(x, [2, 3])).toBe(x);
  expect(graph.slice(x, 1, 0, 3)).toBe(x);
  expect(graph.pad(x, 0, 0, 0)).toBe(x);
  expect(graph.concat([x], 0)).toBe(x);
  expect(graph.split(x, [3], 1)).toEqual([x]);
  expect(graph.sum(x, [])).toBe(x);
  expect(graph.cast(x, 'float32')).toBe(x);
});
