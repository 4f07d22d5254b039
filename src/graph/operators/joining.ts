/**
 * Operators that join tensors and take them apart.
 * @module
 */
import { apply, applyOne, type Lowering, type Operator } from '../operator.js';
import {
  ShapeError,
  checkShape,
  formatShape,
  normalizeAxis,
  sameShape,
  sizeOf,
  type Dim,
  type Tensor,
} from '../tensor.js';
import { named, zerosLike } from './shape.js';

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
