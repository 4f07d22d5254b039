/**
 * Operators that move numbers without changing them, and those that make them from a shape.
 * @module
 */
import { constant } from '../leaf.js';
import { applyOne, type Operator } from '../operator.js';
import {
  ShapeError,
  checkShape,
  formatShape,
  isSize,
  normalizeAxis,
  sameShape,
  sizeOf,
  type DType,
  type Dim,
  type Shape,
  type Tensor,
} from '../tensor.js';
import { sumTo } from './arithmetic.js';

/** The run-time sizes among dims. */
export function named(dims: readonly Dim[]): Dim[] {
  return dims.filter((dim) => typeof dim === 'string');
}

const reshapeOperator: Operator = {
  name: 'reshape',
  dims: ({ outputs: [y] }) => named(y.shape),
  lower: ({ emit, inputs, outputs, node, shapeVector }) => {
    // allowzero: a size of 0 means 0 here, never "copy the input's".
    emit('Reshape', [inputs[0], shapeVector(node.outputs[0].shape)], { allowzero: 1 }, { outputs });
  },
  gradient: ([gradient], { inputs: [x] }) => [reshape(gradient!, x.shape)],
};

/**
 * The same numbers in the same order under another shape. One static size may be −1: it is computed.
 * @throws ShapeError if the element counts differ (run-time sizes must cancel by name).
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const target = inferReshape(x, shape);
  return sameShape(target, x.shape) ? x : applyOne(reshapeOperator, [x], { dtype: x.dtype, shape: target });
}

function inferReshape(x: Tensor, shape: Shape): Dim[] {
  const fail = (): never => {
    throw new ShapeError(`reshape: ${formatShape(x.shape)} does not fit into ${formatShape(shape)}`);
  };
  const unknown = shape.filter((dim) => dim === -1).length;
  const unfit = shape.some((dim) => typeof dim === 'number' && dim !== -1 && !isSize(dim));
  if (unknown > 1 || unfit) fail();
  const remaining = named(x.shape);
  for (const dim of named(shape)) {
    const at = remaining.indexOf(dim);
    if (at < 0) fail();
    remaining.splice(at, 1);
  }
  const product = (dims: Shape): number =>
    sizeOf(dims.filter((dim) => typeof dim === 'number' && dim !== -1));
  const [from, to] = [product(x.shape), product(shape)];
  if (unknown === 0) {
    if (remaining.length > 0 || from !== to) fail();
    return [...shape];
  }
  if (remaining.length === 1 && from === to) return shape.map((dim) => (dim === -1 ? remaining[0] : dim));
  if (remaining.length > 0 || to === 0 || from % to !== 0) fail();
  return shape.map((dim) => (dim === -1 ? from / to : dim));
}

const transposeOperator: Operator = {
  name: 'transpose',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit('Transpose', inputs, { perm: node.attributes['order'] as number[] }, { outputs }),
  gradient: ([gradient], { attributes }) => {
    const order = attributes['order'] as number[];
    return [
      transpose(
        gradient!,
        order.map((_, axis) => order.indexOf(axis)),
      ),
    ];
  },
};

/**
 * Axes in another order; reversed when `order` is absent.
 * @throws ShapeError if `order` is not a permutation of the axes.
 */
export function transpose(
  x: Tensor,
  order: readonly number[] = x.shape.map((_, axis) => x.rank - 1 - axis),
): Tensor {
  const axes = order.map((axis) => normalizeAxis('transpose', axis, x.rank));
  if (axes.length !== x.rank || new Set(axes).size !== x.rank) {
    throw new ShapeError(
      `transpose: [${order.join(', ')}] is not an order of the axes of ${formatShape(x.shape)}`,
    );
  }
  if (axes.every((axis, i) => axis === i)) return x;
  return applyOne(
    transposeOperator,
    [x],
    { dtype: x.dtype, shape: axes.map((axis) => x.shape[axis]) },
    { order: axes },
  );
}

const broadcastOperator: Operator = {
  name: 'broadcastTo',
  dims: ({ outputs: [y] }) => named(y.shape),
  lower: ({ emit, inputs, outputs, node, shapeVector }) =>
    void emit('Expand', [inputs[0], shapeVector(node.outputs[0].shape)], {}, { outputs }),
  gradient: ([gradient], { inputs: [x] }) => [sumTo(gradient!, x.shape)],
};

/**
 * Repeats axes of size 1 (and adds leading ones) up to `shape`.
 * @throws ShapeError if another size would have to stretch.
 */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const offset = shape.length - x.rank;
  if (offset < 0 || x.shape.some((dim, axis) => dim !== 1 && dim !== shape[axis + offset])) {
    throw new ShapeError(`broadcastTo: ${formatShape(x.shape)} does not stretch to ${formatShape(shape)}`);
  }
  return applyOne(broadcastOperator, [x], { dtype: x.dtype, shape });
}

const fillOperator: Operator = {
  name: 'fill',
  dims: ({ outputs: [y] }) => named(y.shape),
  lower: ({ emit, outputs, node, shapeVector, constant: make }) => {
    const { dtype, shape } = node.outputs[0];
    emit(
      'Expand',
      [make(dtype, [], [node.attributes['value'] as number]), shapeVector(shape)],
      {},
      { outputs },
    );
  },
};

/** A tensor with one value everywhere; run-time sizes are measured on whichever tensor carries them. */
export function fill(dtype: DType, shape: Shape, value: number): Tensor {
  checkShape('fill', shape);
  if (shape.length === 0) return constant(dtype, [], [value]);
  return applyOne(fillOperator, [], { dtype, shape }, { value });
}

/** Zeros of the shape and dtype of another tensor. */
export function zerosLike(x: Tensor): Tensor {
  return fill(x.dtype, x.shape, 0);
}

const shapeSizeOperator: Operator = {
  name: 'shapeSize',
  dims: ({ attributes }) => named(attributes['shape'] as Dim[]),
  lower: ({ emit, outputs, node, shapeVector, constant: make }) => {
    const vector = shapeVector(node.attributes['shape'] as Dim[]);
    emit('ReduceProd', [vector, make('int64', [1], [0])], { keepdims: 0 }, { outputs });
  },
};

/** Number of elements of `shape` at run time, int64 of rank 0. `carrier` is a tensor that has the named sizes. */
export function shapeSize(shape: Shape, carrier: Tensor): Tensor {
  return applyOne(shapeSizeOperator, [carrier], { dtype: 'int64', shape: [] }, { shape });
}

/** Puts the elements of an axis at `start`, `start + step`, … of an axis of `size`, zeros between: undoes a slice. */
export function place(x: Tensor, axis: number, start: number, step: number, size: number): Tensor {
  const count = x.shape[axis] as number;
  if (step === 1) return pad(x, axis, start, size - start - count);
  const widened = reshape(
    pad(reshape(x, insert(x.shape, axis + 1, 1)), axis + 1, 0, step - 1),
    x.shape.map((dim, i) => (i === axis ? count * step : dim)),
  );
  const length = Math.min(count * step, size - start);
  return pad(slice(widened, axis, 0, length), axis, start, size - start - length);
}

const sliceOperator: Operator = {
  name: 'slice',
  lower: ({ emit, constant: make, inputs, outputs, node }) => {
    const { axis, start, end, step } = node.attributes as {
      axis: number;
      start: number;
      end: number;
      step: number;
    };
    const vector = (value: number): string => make('int64', [1], [value]);
    emit('Slice', [inputs[0], vector(start), vector(end), vector(axis), vector(step)], {}, { outputs });
  },
  gradient: ([gradient], { inputs: [x], attributes }) => {
    const { axis, start, step } = attributes as { axis: number; start: number; step: number };
    const size = x.shape[axis] as number;
    return [place(gradient!, axis, start, step, size)];
  },
};

function insert(shape: Shape, at: number, dim: Dim): Dim[] {
  return [...shape.slice(0, at), dim, ...shape.slice(at)];
}

/**
 * Elements `start` … `end` − 1 of an axis, every `step`-th.
 * @throws ShapeError if the axis has a run-time size or the range is outside.
 */
export function slice(x: Tensor, axis: number, start: number, end: number, step = 1): Tensor {
  const along = normalizeAxis('slice', axis, x.rank);
  const size = x.shape[along];
  const whole = [start, end].every(isSize) && Number.isInteger(step) && step >= 1;
  if (typeof size !== 'number' || !whole || end > size || start > end) {
    throw new ShapeError(
      `slice: ${start}…${end} step ${step} does not lie in axis ${axis} of ${formatShape(x.shape)}`,
    );
  }
  if (start === 0 && end === size && step === 1) return x;
  const kept = Math.ceil((end - start) / step);
  const shape = x.shape.map((dim, i) => (i === along ? kept : dim));
  return applyOne(sliceOperator, [x], { dtype: x.dtype, shape }, { axis: along, start, end, step });
}

const padOperator: Operator = {
  name: 'pad',
  lower: ({ emit, constant: make, inputs, outputs, node }) => {
    const { axis, before, after } = node.attributes as { axis: number; before: number; after: number };
    const { dtype } = node.outputs[0];
    const amounts = make('int64', [2], [before, after]);
    emit(
      'Pad',
      [inputs[0], amounts, make(dtype, [], [0]), make('int64', [1], [axis])],
      { mode: 'constant' },
      { outputs },
    );
  },
  gradient: ([gradient], { inputs: [x], attributes }) => {
    const { axis, before } = attributes as { axis: number; before: number };
    return [slice(gradient!, axis, before, before + (x.shape[axis] as number))];
  },
};

/**
 * Adds zeros before and after an axis.
 * @throws ShapeError if an amount is not a whole number ≥ 0 or the axis has a run-time size.
 */
export function pad(x: Tensor, axis: number, before: number, after: number): Tensor {
  const along = normalizeAxis('pad', axis, x.rank);
  const size = x.shape[along];
  if (typeof size !== 'number' || !isSize(before) || !isSize(after)) {
    throw new ShapeError(`pad: cannot add ${before} and ${after} to axis ${axis} of ${formatShape(x.shape)}`);
  }
  if (before === 0 && after === 0) return x;
  const shape = x.shape.map((dim, i) => (i === along ? size + before + after : dim));
  return applyOne(padOperator, [x], { dtype: x.dtype, shape }, { axis: along, before, after });
}

const rangeOperator: Operator = {
  name: 'range',
  dims: ({ outputs: [y] }) => named(y.shape),
  lower: ({ emit, constant: make, outputs, node, shapeVector }) => {
    const size = emit('Squeeze', [shapeVector(node.outputs[0].shape)]);
    emit('Range', [make('int64', [], [0]), size, make('int64', [], [1])], {}, { outputs });
  },
};

/** 0, 1, … up to a static or run-time size, int64. */
export function range(size: Dim): Tensor {
  checkShape('range', [size]);
  return applyOne(rangeOperator, [], { dtype: 'int64', shape: [size] });
}
