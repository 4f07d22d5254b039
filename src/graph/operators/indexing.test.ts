import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../../test/support/evaluate.js';
import { count, randomNumbers } from '../../../test/support/gradient-check.js';
import { at, indices, replaced, tabulate, type Nd } from '../../../test/support/nd.js';
import {
  distinct,
  floats,
  operatorTest,
  seeds,
  shapes,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';

/** Whole numbers below `below`, duplicates likely. */
function wholes(seed: number, shape: readonly number[], below: number): Nd {
  return { shape, data: randomNumbers(seed, count(shape), 0, below).map(Math.floor) };
}

function indexTensor({ shape, data }: Nd, dtype: 'int32' | 'int64' = 'int64'): graph.Tensor {
  return graph.constant(dtype, shape, Array.from(data));
}

const indexType = fc.constantFrom('int32' as const, 'int64' as const);

const target = shapes({ minRank: 1, maxRank: 3, maxSize: 4 }).chain((shape) =>
  fc.record({ shape: fc.constant(shape), axis: fc.nat({ max: shape.length - 1 }), seed: seeds, indexType }),
);

/** {@link target} with an index shape of the same rank that reaches outside `shape` at most along the axis. */
const withIndices = target.chain((settings) =>
  fc
    .tuple(fc.nat(5), ...settings.shape.map((size) => fc.integer({ min: 1, max: size })))
    .map(([along, ...sizes]) => ({ ...settings, indexShape: replaced(sizes, settings.axis, along) })),
);

describe('operators with gradients', () => {
  operatorTest(
    'gather: duplicates, any axis, index of any rank',
    fc
      .tuple(target, shapes({ maxRank: 2, maxSize: 4, minSize: 0 }))
      .map(([{ shape, axis, seed, indexType: dtype }, indexShape]): Sample => {
        const index = wholes(seed + 1, indexShape, shape[axis]);
        return {
          operands: [floats(seed, shape)],
          build: ([x]) => graph.gather(x, indexTensor(index, dtype), axis),
          reference: ([x]) =>
            tabulate([...shape.slice(0, axis), ...indexShape, ...shape.slice(axis + 1)], (place) => {
              const chosen = at(index, place.slice(axis, axis + indexShape.length));
              return at(x, [...place.slice(0, axis), chosen, ...place.slice(axis + indexShape.length)]);
            }),
        };
      }),
    20,
  );
  operatorTest(
    // Above 384 rows the gradient is a scatter, up to there a product with a one-hot matrix.
    'gather: rows of a large and of a small table, duplicates',
    fc
      .record({ rows: fc.constantFrom(3, 520), width: fc.integer({ min: 1, max: 3 }), seed: seeds })
      .map(({ rows, width, seed }): Sample => {
        const index = wholes(seed + 1, [2, 4], 3);
        return {
          operands: [floats(seed, [rows, width])],
          build: ([x]) => graph.gather(x, indexTensor(index)),
          reference: ([x]) => tabulate([2, 4, width], ([i, j, column]) => at(x, [at(index, [i, j]), column])),
        };
      }),
  );
  operatorTest(
    'gatherElements: duplicates, smaller index',
    withIndices.map(({ shape, axis, seed, indexShape, indexType: dtype }): Sample => {
      const index = wholes(seed + 1, indexShape, shape[axis]);
      return {
        operands: [floats(seed, shape)],
        build: ([x]) => graph.gatherElements(x, indexTensor(index, dtype), axis),
        reference: ([x]) =>
          tabulate(indexShape, (place) => at(x, replaced(place, axis, tableAt(index, place)))),
      };
    }),
    15,
  );
  operatorTest(
    'scatterAdd: duplicates, smaller index',
    withIndices.map(({ shape, axis, seed, indexShape, indexType: dtype }): Sample => {
      const index = wholes(seed + 1, indexShape, shape[axis]);
      return {
        operands: [floats(seed, shape), floats(seed + 2, indexShape)],
        build: ([x, updates]) => graph.scatterAdd(x, indexTensor(index, dtype), updates, axis),
        reference: ([x, updates]) =>
          tabulate(shape, (place) => {
            let total = at(x, place);
            for (const from of indices(indexShape)) {
              const to = replaced(from, axis, tableAt(index, from));
              if (to.every((i, a) => i === place[a])) total += tableAt(updates, from);
            }
            return total;
          }),
      };
    }),
    15,
  );
  operatorTest(
    // Ties are kinks: all numbers differ.
    'topK values',
    fc
      .tuple(shapes({ minRank: 1, maxRank: 3, maxSize: 5 }), fc.nat(4), fc.boolean(), seeds)
      .map(([shape, some, largest, seed]): Sample => {
        const size = shape[shape.length - 1];
        const k = 1 + (some % size);
        return {
          operands: [distinct(seed, shape)],
          build: ([x]) => graph.topK(x, k, { largest }).values,
          reference: ([x]) =>
            tabulate([...shape.slice(0, -1), k], (place) => {
              const line = Array.from({ length: size }, (_, i) =>
                at(x, replaced(place, shape.length - 1, i)),
              );
              return line.sort((a, b) => (largest ? b - a : a - b))[place[shape.length - 1]];
            }),
        };
      }),
    15,
  );
  for (const [repeats, open] of [
    [1, false],
    [3, false],
    [1, true],
    [3, true],
  ] as const) {
    operatorTest(
      `exchangeRows: ${repeats} cop${repeats === 1 ? 'y' : 'ies'}${open ? ', empty places and dropped copies' : ''}`,
      fc
        .tuple(fc.integer({ min: 1, max: 5 }), shapes({ maxRank: 2 }), seeds)
        .map(([rows, rest, seed]): Sample => {
          const copies = rows * repeats;
          const order = Array.from(
            distinct(seed, [copies]).data!,
            (value) => Math.round(value * 8) + Math.floor(copies / 2),
          );
          // Copy c goes to place order[c]; with `open`, places from the last two on do not exist and two stay empty.
          const kept = open ? Math.max(0, copies - 2) : copies;
          const places = open ? kept + 2 : copies;
          const inverse = order.map((place) => (place < kept ? place : places));
          const index = Array.from({ length: places }, (_, place) => {
            const copy = inverse.indexOf(place);
            return copy < 0 ? rows : Math.floor(copy / repeats);
          });
          const vector = (values: number[]): graph.Tensor => graph.constant('int64', [values.length], values);
          return {
            operands: [floats(seed + 1, [rows, ...rest])],
            build: ([x]) => graph.exchangeRows(x, vector(index), vector(inverse), { repeats, open }),
            reference: ([x]) =>
              tabulate([places, ...rest], ([place, ...others]) =>
                index[place] < rows ? at(x, [index[place], ...others]) : 0,
              ),
          };
        }),
    );
  }
});

/** Element of a table that does not broadcast. */
function tableAt(table: Nd, place: readonly number[]): number {
  return at(table, place);
}

test('gather along a run-time number of indices: the gradient adds up duplicates', async () => {
  const table = graph.input('table', 'float64', [3, 2]);
  const ids = graph.input('ids', 'int32', ['tokens']);
  const [gradient] = graph.gradients(graph.sum(graph.gather(table, ids)), [table]);
  expect(await numbersOf(gradient, { ids: Int32Array.of(2, 0, 2, 2) })).toEqual([1, 1, 0, 0, 3, 3]);
  const batches = graph.input('ids', 'int32', ['batch', 'tokens']);
  expect(() => graph.gradients(graph.sum(graph.gather(table, batches)), [table])).toThrow(
    /gather: its gradient needs static indices or a single run-time size, not \[batch, tokens\]/,
  );
});

test('ties: the lowest index comes first in topK, argSort and argMax, in every dtype', async () => {
  for (const [dtype, array] of [
    ['float32', Float32Array],
    ['float64', Float64Array],
    ['int64', BigInt64Array],
  ] as const) {
    const x = graph.input('x', dtype, [2, 40]);
    const numbers = Array.from({ length: 80 }, (_, i) => (i * 7) % 3);
    const feeds = {
      x:
        dtype === 'int64'
          ? BigInt64Array.from(numbers, BigInt)
          : (array as typeof Float32Array).from(numbers),
    };
    for (const largest of [true, false]) {
      for (const k of [1, 5, 40]) {
        const expected = [0, 40].flatMap((start) =>
          numbers
            .slice(start, start + 40)
            .map((value, i) => ({ value, i }))
            .sort((a, b) => (largest ? b.value - a.value : a.value - b.value) || a.i - b.i)
            .slice(0, k)
            .map(({ i }) => i),
        );
        expect(await numbersOf(graph.topK(x, k, { largest }).indices, feeds)).toEqual(expected);
      }
    }
  }
  const x = graph.input('x', 'float32', [5]);
  const feeds = { x: Float32Array.of(1, 3, 1, 3, 2) };
  expect(await numbersOf(graph.argSort(x), feeds)).toEqual([0, 2, 4, 1, 3]);
  expect(await numbersOf(graph.argMax(x), feeds)).toEqual([1]);
});

test('invertPermutation undoes argSort', async () => {
  const x = graph.input('x', 'int32', [6]);
  const order = graph.argSort(x);
  const there = graph.gather(x, order);
  const back = graph.gather(there, graph.invertPermutation(order));
  const feeds = { x: Int32Array.of(4, 1, 3, 1, 0, 2) };
  expect(await evaluate({ there, back }, feeds)).toEqual({
    there: Int32Array.of(0, 1, 1, 2, 3, 4),
    back: feeds.x,
  });
});

test('oneHot: outside indices give rows of zeros', async () => {
  const ids = graph.input('ids', 'int32', [2, 2]);
  const feeds = { ids: Int32Array.of(0, 2, 3, -1) };
  const expected = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
  for (const dtype of ['float32', 'float64', 'int64', 'bool'] as const) {
    expect(await numbersOf(graph.oneHot(ids, 3, dtype), feeds)).toEqual(expected);
  }
});

test('choosing the indices is no differentiable act: only the values carry a gradient', async () => {
  const x = graph.input('x', 'float64', [4]);
  const { values, indices: chosen } = graph.topK(x, 2);
  const weighted = graph.multiply(values, graph.cast(chosen, 'float64'));
  const [gradient] = graph.gradients(graph.sum(weighted), [x]);
  expect(await numbersOf(gradient, { x: Float64Array.of(1, 4, 2, 3) })).toEqual([0, 1, 0, 3]);
});
