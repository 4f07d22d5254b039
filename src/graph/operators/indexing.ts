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
  sizeOf,
  type DType,
  type Dim,
  type Shape,
  type Tensor,
} from '../tensor.js';
import { cast, equal } from './arithmetic.js';
import { sum } from './reduce.js';
import { concat } from './joining.js';
import { matmul } from './matmul.js';
import { broadcastTo, fill, range, reshape, zerosLike } from './shape.js';

/** Whether static sizes of `indices` stay inside `x`, the indexed axis aside. */
function withinOtherAxes(indices: Shape, x: Shape, along: number): boolean {
  return indices.every((size, axis) => {
    const limit = x[axis];
    return axis === along || typeof size !== 'number' || typeof limit !== 'number' || size <= limit;
  });
}

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
    const offset = axis + indices.rank;
    const g = gradient!;
    if (axis === 0 && hasSmallOneHot(x.shape, indices.shape)) return [sumByOneHot(g, x, indices)];
    // Flatten the index axes into one, spread the indices over the other axes, and add element by element:
    // ScatterElements, because ScatterND with a reduction races on duplicates (microsoft/onnxruntime#18048).
    const flat = reshape(g, [
      ...x.shape.slice(0, axis),
      elementCount(indices.shape),
      ...g.shape.slice(offset),
    ]);
    const column = reshape(
      indices,
      flat.shape.map((dim, i) => (i === axis ? dim : 1)),
    );
    return [scatterAdd(zerosLike(x), broadcastTo(column, flat.shape), flat, axis)];
  },
};

/** Above either, ScatterElements (16 ns an element, on one thread) is faster than the product with a one-hot matrix. */
const oneHotLimits = { rows: 384, elements: 2 ** 22 };

function hasSmallOneHot(table: Shape, indices: Shape): boolean {
  if (![...table, ...indices].every((dim) => typeof dim === 'number')) return false;
  const rows = table[0] as number;
  return rows <= oneHotLimits.rows && rows * sizeOf(indices) <= oneHotLimits.elements;
}

/** Sums of the gradient's slices by table row, as `oneHotᵀ · gradient`: all threads, and no scatter. */
function sumByOneHot(gradient: Tensor, table: Tensor, indices: Tensor): Tensor {
  const count = sizeOf(indices.shape);
  const chosen = oneHot(reshape(indices, [count]), table.shape[0] as number, table.dtype);
  const flat = reshape(gradient, [count, sizeOf(table.shape.slice(1))]);
  return reshape(matmul(chosen, flat, { transposeA: true }), table.shape);
}

/** Element count as a dim, which a single run-time size can be but a product of several cannot. */
function elementCount(shape: Shape): Dim {
  const sizes = shape.filter((dim) => dim !== 1);
  if (sizes.length === 1) return sizes[0];
  if (sizes.every((dim) => typeof dim === 'number')) return sizeOf(sizes);
  throw new ShapeError(
    `gather: its gradient needs static indices or a single run-time size, not ${formatShape(shape)}`,
  );
}

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

const exchangeRowsOperator: Operator = {
  name: 'exchangeRows',
  lower: ({ emit, constant, inputs: [x, index], outputs, node }) => {
    if (!node.attributes['open']) {
      emit('Gather', [x, index], { axis: 0 }, { outputs });
      return;
    }
    const { dtype, shape } = node.inputs[0];
    const width = sizeOf(shape.slice(1));
    const zeros = constant(dtype, [1, ...(shape.slice(1) as number[])], new Array<number>(width).fill(0));
    emit('Gather', [emit('Concat', [x, zeros], { axis: 0 }), index], { axis: 0 }, { outputs });
  },
  gradient: ([gradient], { inputs: [x, index, inverse], attributes }) => {
    const { open, repeats } = attributes as { open: boolean; repeats: number };
    if (repeats === 1) return [exchangeRows(gradient!, inverse, index, { open })];
    // With several copies a row the inverse is no permutation of rows, so its own gradient is not needed as one.
    const source = open ? concat([gradient!, fill(x.dtype, [1, ...x.shape.slice(1)], 0)], 0) : gradient!;
    return [sum(reshape(gather(source, inverse), [x.shape[0], repeats, ...x.shape.slice(1)]), 1)];
  },
};

/**
 * Rows of `x` at `index`, where the way back is known: `inverse` says where each copy of each row went. The gradient
 * is then a gather as well, never a scatter. This is how tokens travel to experts and back.
 *
 * @param x `[rows, ...]`
 * @param index int64 `[places]`: which row each place takes
 * @param inverse int64 `[rows · repeats]`: the place of copy `j` of row `i` at `i · repeats + j`
 * @param options `repeats`: copies of each row, default 1. `open`: some places are empty and some copies are dropped;
 *   `index = rows` gives a row of zeros, and `inverse = places` marks a copy that went nowhere.
 * @throws ShapeError if the indices are not vectors or `inverse` has another length than rows · repeats.
 */
export function exchangeRows(
  x: Tensor,
  index: Tensor,
  inverse: Tensor,
  { repeats = 1, open = false }: { repeats?: number; open?: boolean } = {},
): Tensor {
  checkIndices('exchangeRows', index);
  checkIndices('exchangeRows', inverse);
  const rows = x.shape[0];
  const whole = Number.isInteger(repeats) && repeats >= 1;
  const fits = typeof rows !== 'number' || inverse.shape[0] === rows * repeats;
  if (rows === undefined || index.rank !== 1 || inverse.rank !== 1 || !whole || !fits) {
    throw new ShapeError(
      `exchangeRows: ${x.toString()} with ${repeats} copies does not fit index ${index.toString()} and inverse ${inverse.toString()}`,
    );
  }
  const shape = [index.shape[0], ...x.shape.slice(1)];
  return applyOne(exchangeRowsOperator, [x, index, inverse], { dtype: x.dtype, shape }, { repeats, open });
}

const gatherElementsOperator: Operator = {
  name: 'gatherElements',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit('GatherElements', inputs, { axis: node.attributes['axis'] as number }, { outputs }),
  gradient: ([gradient], { inputs: [x, indices], attributes }) => [
    scatterAdd(zerosLike(x), indices, gradient!, attributes['axis'] as number),
  ],
};

/**
 * One element per index: `out[i][j] = x[i][indices[i][j]]` for the last of two axes.
 * @throws ShapeError if the ranks differ, or the indices are larger than `x` along another axis.
 */
export function gatherElements(x: Tensor, indices: Tensor, axis = -1): Tensor {
  checkIndices('gatherElements', indices);
  if (x.rank !== indices.rank) {
    throw new ShapeError(`gatherElements: ${x.toString()} and indices ${indices.toString()} differ in rank`);
  }
  const along = normalizeAxis('gatherElements', axis, x.rank);
  if (!withinOtherAxes(indices.shape, x.shape, along)) {
    throw new ShapeError(
      `gatherElements: indices ${indices.toString()} reach outside ${x.toString()} beside axis ${along}`,
    );
  }
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
    gatherElements(gradient!, indices, attributes['axis'] as number),
  ],
};

/**
 * Adds `updates` to `x` at `indices` along an axis, duplicates included; always in the same order, so the same bits.
 * @throws ShapeError if indices and updates differ in shape, or are larger than `x` along another axis.
 */
export function scatterAdd(x: Tensor, indices: Tensor, updates: Tensor, axis = -1): Tensor {
  checkIndices('scatterAdd', indices);
  const along = normalizeAxis('scatterAdd', axis, x.rank);
  const fits = sameShape(indices.shape, updates.shape) && withinOtherAxes(indices.shape, x.shape, along);
  if (!fits || x.rank !== indices.rank || x.dtype !== updates.dtype || x.dtype === 'bool') {
    throw new ShapeError(
      `scatterAdd: ${x.toString()} cannot take ${updates.toString()} at indices ${formatShape(indices.shape)}`,
    );
  }
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
    const used = outputs.map((name, i) => name || `${outputs[1 - i]}/unused`);
    const attributes = { axis: -1, largest: largest ? 1 : 0, sorted: 1 };
    emit('TopK', [inputs[0], constant('int64', [1], [k])], attributes, { outputs: used });
  },
  gradient: ([gradient], { inputs: [x], outputs: [, indices] }) => [
    gradient && scatterAdd(zerosLike(x), indices, gradient, -1),
  ],
};

/**
 * The `k` largest (or smallest) elements of the last axis, in order, with their indices (int64). Equal elements come
 * in order of their index, so ties are deterministic.
 * @throws ShapeError if `k` is not between 1 and a static axis size.
 */
export function topK(x: Tensor, k: number, { largest = true } = {}): { values: Tensor; indices: Tensor } {
  const size = x.shape[x.rank - 1];
  if (x.dtype === 'bool') throw new ShapeError(`topK: ${x.toString()} is not a number`);
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
  return { values: values, indices: indices };
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
  if (order.dtype !== 'int64' || order.rank !== 1) {
    throw new ShapeError(`invertPermutation: ${order.toString()} must be an int64 vector`);
  }
  return scatterAdd(zerosLike(order), order, range(order.shape[0]), 0);
}

/** Index of the largest element of the last axis, the lowest one among equals: int64 without that axis. */
export function argMax(x: Tensor): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError(`argMax: ${x.toString()} is not floating point`);
  return reshape(topK(x, 1).indices, x.shape.slice(0, -1));
}
