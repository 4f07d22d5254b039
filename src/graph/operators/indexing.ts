/**
 * Operators that choose elements by index.
 * @module
 */
import { apply, applyOne, type Operator } from '../operator.js';
import {
  ShapeError,
  formatShape,
  isFloat,
  normalizeAxis,
  sameShape,
  type DType,
  type Dim,
  type Tensor,
} from '../tensor.js';
import { cast, equal } from './arithmetic.js';
import { sum } from './reduce.js';
import { broadcastTo, range, reshape, zerosLike } from './shape.js';

function checkIndices(operator: string, indices: Tensor): void {
  if (indices.dtype !== 'int64' && indices.dtype !== 'int32') {
    throw new ShapeError(`${operator}: indices ${indices.toString()} must be int32 or int64`);
  }
}

const gatherOperator: Operator = {
  name: 'gather',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit('Gather', inputs, { axis: node.attributes['axis'] as number }, { outputs }),
  gradient: ([gradient], { inputs: [x, indices], attributes }) => {
    const axis = attributes['axis'] as number;
    const offset = axis + indices!.rank;
    const g = gradient!;
    // Flatten the index axes into one, spread the indices over the other axes, and add element by element:
    // ScatterElements, because ScatterND with a reduction races on duplicates (microsoft/onnxruntime#18048).
    const flat = reshape(g, [...x!.shape.slice(0, axis), -1, ...g.shape.slice(offset)]);
    const column = reshape(
      indices!,
      flat.shape.map((dim, i) => (i === axis ? dim : 1)),
    );
    return [scatterAdd(zerosLike(x!), broadcastTo(column, flat.shape), flat, axis)];
  },
};

/**
 * Slices of `x` along an axis at `indices`; the index axes take that axis's place.
 *
 * @param x `[..., size, ...]`
 * @param indices int32 or int64 of any shape, each 0 … size − 1
 * @example
 * const embedded = gather(table, tokens); // [vocabSize, hiddenSize], [batch, time] → [batch, time, hiddenSize]
 */
export function gather(x: Tensor, indices: Tensor, axis = 0): Tensor {
  checkIndices('gather', indices);
  const along = normalizeAxis('gather', axis, x.rank);
  const shape = [...x.shape.slice(0, along), ...indices.shape, ...x.shape.slice(along + 1)];
  return applyOne(gatherOperator, [x, indices], { dtype: x.dtype, shape }, { axis: along });
}

const permuteRowsOperator: Operator = {
  name: 'permuteRows',
  lower: ({ emit, inputs, outputs }) =>
    void emit('Gather', [inputs[0]!, inputs[1]!], { axis: 0 }, { outputs }),
  gradient: ([gradient], { inputs: [x, order, inverse], attributes }) => {
    const repeats = attributes['repeats'] as number;
    const g = gradient!;
    if (repeats === 1) return [permuteRows(g, inverse!, order!)];
    return [sum(reshape(gather(g, inverse!), [x!.shape[0]!, repeats, ...x!.shape.slice(1)]), 1)];
  },
};

/**
 * Rows of `x` in another order, each used exactly `repeats` times. Because the inverse is given, the gradient is a
 * gather as well, never a scatter.
 *
 * @param x `[rows, ...]`
 * @param order int64 `[rows · repeats]`: which row of `x` each output row copies.
 * @param inverse int64 `[rows · repeats]`: output position of copy `j` of row `i`, at `i · repeats + j`.
 */
export function permuteRows(x: Tensor, order: Tensor, inverse: Tensor, repeats = 1): Tensor {
  checkIndices('permuteRows', order);
  if (!sameShape(order.shape, inverse.shape) || order.rank !== 1) {
    throw new ShapeError(`permuteRows: order ${order.toString()} and inverse ${inverse.toString()} differ`);
  }
  const shape = [order.shape[0]!, ...x.shape.slice(1)];
  return applyOne(permuteRowsOperator, [x, order, inverse], { dtype: x.dtype, shape }, { repeats });
}

const gatherElementsOperator: Operator = {
  name: 'gatherElements',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit('GatherElements', inputs, { axis: node.attributes['axis'] as number }, { outputs }),
  gradient: ([gradient], { inputs: [x, indices], attributes }) => [
    scatterAdd(zerosLike(x!), indices!, gradient!, attributes['axis'] as number),
  ],
};

/**
 * One element per index: `out[i][j] = x[i][indices[i][j]]` for the last of two axes.
 * @throws ShapeError if the ranks differ.
 */
export function gatherElements(x: Tensor, indices: Tensor, axis = -1): Tensor {
  checkIndices('gatherElements', indices);
  if (x.rank !== indices.rank) {
    throw new ShapeError(`gatherElements: ${x.toString()} and indices ${indices.toString()} differ in rank`);
  }
  const along = normalizeAxis('gatherElements', axis, x.rank);
  return applyOne(
    gatherElementsOperator,
    [x, indices],
    { dtype: x.dtype, shape: indices.shape },
    { axis: along },
  );
}

const scatterAddOperator: Operator = {
  name: 'scatterAdd',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit(
      'ScatterElements',
      inputs,
      { axis: node.attributes['axis'] as number, reduction: 'add' },
      { outputs },
    ),
  gradient: ([gradient], { inputs: [, indices], attributes }) => [
    gradient,
    undefined,
    gatherElements(gradient!, indices!, attributes['axis'] as number),
  ],
};

/**
 * Adds `updates` to `x` at `indices` along an axis, duplicates included; always in the same order, so the same bits.
 * @throws ShapeError if indices and updates differ in shape.
 */
export function scatterAdd(x: Tensor, indices: Tensor, updates: Tensor, axis = -1): Tensor {
  checkIndices('scatterAdd', indices);
  if (!sameShape(indices.shape, updates.shape) || x.rank !== indices.rank || x.dtype !== updates.dtype) {
    throw new ShapeError(
      `scatterAdd: ${x.toString()} cannot take ${updates.toString()} at indices ${formatShape(indices.shape)}`,
    );
  }
  const along = normalizeAxis('scatterAdd', axis, x.rank);
  return applyOne(scatterAddOperator, [x, indices, updates], x, { axis: along });
}

/**
 * Rows of 0 with a 1 at each index: `[...]` → `[..., depth]`. An index outside 0 … depth − 1 gives a row of zeros.
 */
export function oneHot(indices: Tensor, depth: number, dtype: DType = 'float32'): Tensor {
  checkIndices('oneHot', indices);
  const column = reshape(cast(indices, 'int64'), [...indices.shape, 1]);
  return cast(equal(column, range(depth)), dtype);
}

const topKOperator: Operator = {
  name: 'topK',
  lower: ({ emit, constant, inputs, outputs, node }) => {
    const { k, largest } = node.attributes as { k: number; largest: boolean };
    const used = outputs.map((name, i) => name || `${outputs[1 - i]!}/unused`);
    const attributes = { axis: -1, largest: largest ? 1 : 0, sorted: 1 };
    emit('TopK', [inputs[0]!, constant('int64', [1], [k])], attributes, { outputs: used });
  },
  gradient: ([gradient], { inputs: [x], outputs: [, indices] }) => [
    gradient && scatterAdd(zerosLike(x!), indices!, gradient, -1),
  ],
};

/**
 * The `k` largest (or smallest) elements of the last axis, in order, with their indices (int64). Equal elements come
 * in order of their index, so ties are deterministic.
 * @throws ShapeError if `k` is not between 1 and a static axis size.
 */
export function topK(x: Tensor, k: number, { largest = true } = {}): { values: Tensor; indices: Tensor } {
  const size = x.shape[x.rank - 1];
  if (size === undefined || !Number.isInteger(k) || k < 1 || (typeof size === 'number' && k > size)) {
    throw new ShapeError(`topK: k = ${k} does not fit the last axis of ${x.toString()}`);
  }
  const shape = [...x.shape.slice(0, -1), k];
  const [values, indices] = apply(
    topKOperator,
    [x],
    [
      { dtype: x.dtype, shape },
      { dtype: 'int64', shape },
    ],
    { k, largest },
  );
  return { values: values!, indices: indices! };
}

/** Positions that sort a vector in ascending order, equal elements in their old order: int64 `[size]`. */
export function argSort(x: Tensor): Tensor {
  const size = x.shape[0];
  if (x.rank !== 1 || typeof size !== 'number')
    throw new ShapeError(`argSort: ${x.toString()} must be a static vector`);
  return topK(x, size, { largest: false }).indices;
}

/** Inverse of a permutation given as int64 `[size]`: where each old position went. */
export function invertPermutation(order: Tensor): Tensor {
  return scatterAdd(zerosLike(order), order, range(order.shape[0] as Dim), 0);
}

/** Index of the largest element of the last axis, the lowest one among equals: int64 without that axis. */
export function argMax(x: Tensor): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError(`argMax: ${x.toString()} is not floating point`);
  return reshape(topK(x, 1).indices, x.shape.slice(0, -1));
}
