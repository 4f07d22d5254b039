/**
 * Operators that move numbers without changing them, and those that make them from a shape.
 * @module
 */
import { constant } from '../leaf.js';
import { apply, applyOne, type Lowering, type Operator } from '../operator.js';
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

function named(dims: readonly Dim[]): Dim[] {
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

const concatOperator: Operator = {
  name: 'concat',
  lower: ({ emit, inputs, outputs, node }) => {
    const { axis, pieces } = node.attributes as { axis: number; pieces: number };
    emit('Concat', inputs.slice(0, pieces), { axis }, { outputs });
  },
  gradient: ([gradient], { inputs, attributes }) => {
    const { axis, pieces } = attributes as { axis: number; pieces: number };
    const sizes = inputs.slice(0, pieces).map((piece) => piece.shape[axis]);
    return split(gradient!, sizes, axis, inputs[pieces]);
  },
};

/**
 * Joins tensors along an axis.
 *
 * @param options.size the joined size, needed where pieces have run-time sizes.
 * @param options.counts int64 `[pieces]`, the pieces' run-time sizes, when they are known as a tensor: the gradient
 *   is split by it.
 * @throws ShapeError if the other axes differ or `size` contradicts static sizes.
 */
export function concat(
  pieces: readonly Tensor[],
  axis: number,
  options: { size?: Dim; counts?: Tensor | undefined } = {},
): Tensor {
  const [first] = pieces;
  if (!first) throw new ShapeError('concat: needs at least one tensor');
  const along = normalizeAxis('concat', axis, first.rank);
  for (const piece of pieces) {
    const fits =
      piece.rank === first.rank && piece.shape.every((dim, i) => i === along || dim === first.shape[i]);
    if (!fits || piece.dtype !== first.dtype) {
      throw new ShapeError(
        `concat: ${first.toString()} and ${piece.toString()} do not join along axis ${axis}`,
      );
    }
  }
  checkCounts('concat', options.counts, pieces.length);
  const sizes = pieces.map((piece) => piece.shape[along]);
  const known = sizes.every((size) => typeof size === 'number') ? sizeOf([sum(sizes)]) : undefined;
  if (known !== undefined && options.size !== undefined && options.size !== known) {
    throw new ShapeError(`concat: pieces of [${sizes.join(', ')}] make ${known}, not ${options.size}`);
  }
  const size = known ?? options.size ?? sizes.join('+');
  if (pieces.length === 1 && size === sizes[0]) return first;
  const shape = first.shape.map((dim, i) => (i === along ? size : dim));
  const inputs = options.counts ? [...pieces, options.counts] : pieces;
  return applyOne(
    concatOperator,
    inputs,
    { dtype: first.dtype, shape },
    { axis: along, pieces: pieces.length },
  );
}

function checkCounts(operator: string, counts: Tensor | undefined, pieces: number): void {
  if (counts && (counts.dtype !== 'int64' || !sameShape(counts.shape, [pieces]))) {
    throw new ShapeError(`${operator}: counts ${counts.toString()} must be int64[${pieces}]`);
  }
}

function sum(sizes: readonly Dim[]): number {
  return (sizes as number[]).reduce((a, b) => a + b, 0);
}

const splitOperator: Operator = {
  name: 'split',
  dims: ({ outputs, inputs, attributes }) =>
    inputs.length > 1 ? [] : named(outputs.map((piece) => piece.shape[attributes['axis'] as number])),
  lower: ({ emit, inputs, outputs, node, shapeVector }) => {
    const axis = node.attributes['axis'] as number;
    const sizes = inputs[1] ?? shapeVector(node.outputs.map((piece) => piece.shape[axis]));
    // ONNX Runtime's Split writes every output: leaving one out crashes it.
    const first = outputs.find((name) => name !== '')!;
    const pieces = outputs.map((name, i) => name || `${first}/unused${i}`);
    emit('Split', [inputs[0], sizes], { axis }, { outputs: pieces });
  },
  gradient: (gradients, { inputs: [x, counts], outputs, attributes }) => {
    const axis = attributes['axis'] as number;
    const pieces = gradients.map((gradient, i) => gradient ?? zerosLike(outputs[i]));
    return [concat(pieces, axis, { size: x.shape[axis], counts })];
  },
};

/**
 * Cuts a tensor into consecutive pieces along an axis.
 *
 * @param sizes one size per piece; run-time sizes get the names under which later operators know them.
 * @param counts int64 `[pieces]`: the sizes at run time. Needed for names that no other tensor carries.
 * @throws ShapeError if static sizes do not add up.
 */
export function split(x: Tensor, sizes: readonly Dim[], axis: number, counts?: Tensor): readonly Tensor[] {
  const along = normalizeAxis('split', axis, x.rank);
  const total = x.shape[along];
  if (
    !counts &&
    typeof total === 'number' &&
    sizes.every((size) => typeof size === 'number') &&
    sum(sizes) !== total
  ) {
    throw new ShapeError(
      `split: sizes [${sizes.join(', ')}] do not add up to axis ${axis} of ${formatShape(x.shape)}`,
    );
  }
  if (sizes.length === 0) throw new ShapeError(`split: needs at least one size for ${x.toString()}`);
  checkShape('split', sizes);
  checkCounts('split', counts, sizes.length);
  if (sizes.length === 1 && sizes[0] === total) return [x];
  const types = sizes.map((size) => ({
    dtype: x.dtype,
    shape: x.shape.map((dim, i) => (i === along ? size : dim)),
  }));
  return apply(splitOperator, counts ? [x, counts] : [x], types, { axis: along });
}

const stackOperator: Operator = {
  name: 'stack',
  lower: (lowering) => {
    const pieces = lowering.inputs.map((name) => unsqueeze(lowering, name));
    lowering.emit('Concat', pieces, { axis: 0 }, { outputs: lowering.outputs });
  },
  gradient: ([gradient]) => unstack(gradient!),
};

function unsqueeze({ emit, constant: make }: Lowering, name: string): string {
  return emit('Unsqueeze', [name, make('int64', [1], [0])]);
}

/**
 * Joins equal shapes along a new first axis: `[...]` × n → `[n, ...]`. As a program's output it is written piece by
 * piece into one buffer, without a copy: the gradient of an expert bank arrives this way.
 * @throws ShapeError if the shapes differ.
 */
export function stack(pieces: readonly Tensor[]): Tensor {
  const [first] = pieces;
  if (!first) throw new ShapeError('stack: needs at least one tensor');
  for (const piece of pieces) {
    if (!sameShape(piece.shape, first.shape) || piece.dtype !== first.dtype) {
      throw new ShapeError(`stack: ${first.toString()} and ${piece.toString()} differ`);
    }
  }
  return applyOne(stackOperator, pieces, { dtype: first.dtype, shape: [pieces.length, ...first.shape] });
}

const unstackOperator: Operator = {
  name: 'unstack',
  lower: ({ emit, inputs, outputs, node, constant: make, shapeVector }) => {
    const count = node.outputs.length;
    const parts = node.outputs.map((_, i) => `${outputs.find((name) => name !== '')!}/part${i}`);
    emit(
      'Split',
      [inputs[0], shapeVector(new Array<number>(count).fill(1))],
      { axis: 0 },
      { outputs: parts },
    );
    outputs.forEach((output, i) => {
      if (output !== '') emit('Squeeze', [parts[i], make('int64', [1], [0])], {}, { outputs: [output] });
    });
  },
  gradient: (gradients, { outputs }) => [
    stack(gradients.map((gradient, i) => gradient ?? zerosLike(outputs[i]))),
  ],
};

/**
 * Takes a tensor apart along its first axis: `[n, ...]` → n × `[...]`. On a fed tensor this costs nothing: each part
 * is fed as a view, which is how one stored expert bank reaches one matmul per expert.
 * @throws ShapeError if the first axis is not static.
 */
export function unstack(x: Tensor): readonly Tensor[] {
  const [count, ...rest] = x.shape;
  if (typeof count !== 'number' || count === 0) {
    throw new ShapeError(`unstack: ${x.toString()} needs a static first axis of at least 1`);
  }
  const types = Array.from({ length: count }, () => ({ dtype: x.dtype, shape: rest }));
  return apply(unstackOperator, [x], types);
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
