/**
 * Reductions over axes, cumulative sums, and the softmax family.
 * @module
 */
import { applyOne, type Operator } from '../operator.js';
import { stopGradient } from '../gradients.js';
import { ShapeError, isFloat, normalizeAxis, sizeOf, type Dim, type Shape, type Tensor } from '../tensor.js';
import { add, cast, divide, equal, exp, log, maximum, multiply, subtract } from './arithmetic.js';
import { broadcastTo, reshape, shapeSize } from './shape.js';

/** Axes to reduce (negative count from the end; all when absent), and whether to keep them with size 1. */
export type Axes = number | readonly number[] | undefined;

function resolveAxes(name: string, x: Tensor, axes: Axes): number[] {
  const list =
    axes === undefined ? x.shape.map((_, axis) => axis) : typeof axes === 'number' ? [axes] : [...axes];
  const resolved = list.map((axis) => normalizeAxis(name, axis, x.rank)).sort((a, b) => a - b);
  if (new Set(resolved).size !== resolved.length) throw new ShapeError(`${name}: an axis is named twice`);
  return resolved;
}

function reducedShape(shape: Shape, axes: readonly number[], keepDims: boolean): Dim[] {
  return shape.flatMap((dim, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [dim]));
}

type ReduceRule = (gradient: Tensor, x: Tensor, output: Tensor, axes: readonly number[]) => Tensor;

function reduction(
  name: string,
  onnxType: string,
  rule: ReduceRule,
): (x: Tensor, axes?: Axes, keepDims?: boolean) => Tensor {
  const operator: Operator = {
    name,
    lower: ({ emit, constant, inputs, outputs, node }) => {
      const { axes, keepDims } = node.attributes as { axes: number[]; keepDims: boolean };
      const axesName = constant('int64', [axes.length], axes);
      emit(
        onnxType,
        [inputs[0], axesName],
        { keepdims: keepDims ? 1 : 0, noop_with_empty_axes: 1 },
        { outputs },
      );
    },
    gradient: ([gradient], { inputs: [x], outputs: [output], attributes }) => {
      const { axes } = attributes as { axes: number[] };
      const kept = reducedShape(x.shape, axes, true);
      return [rule(reshape(gradient!, kept), x, reshape(output, kept), axes)];
    },
  };
  return (x, axes, keepDims = false) => {
    if (x.dtype === 'bool') throw new ShapeError(`${name}: ${x.toString()} is not a number; cast it first`);
    const resolved = resolveAxes(name, x, axes);
    if (resolved.length === 0) return x;
    if (name !== 'sum' && resolved.some((axis) => x.shape[axis] === 0)) {
      throw new ShapeError(
        `${name}: ${x.toString()} has nothing to choose from along axis ${resolved.join(', ')}`,
      );
    }
    const shape = reducedShape(x.shape, resolved, keepDims);
    return applyOne(operator, [x], { dtype: x.dtype, shape }, { axes: resolved, keepDims });
  };
}

/** Sum over axes. The sum of nothing is 0. */
export const sum = reduction('sum', 'ReduceSum', (g, x) => broadcastTo(g, x.shape));

const spreadOverTies: ReduceRule = (g, x, output, axes) => {
  const ties = cast(equal(x, output), g.dtype);
  return divide(multiply(ties, g), sum(ties, axes, true));
};

/** Largest value over axes; its gradient is shared equally by ties. */
export const max = reduction('max', 'ReduceMax', spreadOverTies);

/** Smallest value over axes; its gradient is shared equally by ties. */
export const min = reduction('min', 'ReduceMin', spreadOverTies);

/** Mean over axes. The mean of nothing is 0, so that an expert without tokens contributes no NaN. */
export function mean(x: Tensor, axes?: Axes, keepDims = false): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError(`mean: ${x.toString()} is not floating point`);
  const resolved = resolveAxes('mean', x, axes);
  const reduced = resolved.map((axis) => x.shape[axis]);
  const total = sum(x, resolved, keepDims);
  if (reduced.every((dim) => typeof dim === 'number')) {
    return multiply(total, 1 / Math.max(1, sizeOf(reduced)));
  }
  return divide(total, maximum(cast(shapeSize(reduced, x), x.dtype), 1));
}

const cumulativeSumOperator: Operator = {
  name: 'cumulativeSum',
  lower: ({ emit, constant, inputs, outputs, node }) => {
    const { axis, exclusive, reverse } = node.attributes as {
      axis: number;
      exclusive: boolean;
      reverse: boolean;
    };
    const attributes = { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 };
    emit('CumSum', [inputs[0], constant('int64', [], [axis])], attributes, { outputs });
  },
  gradient: ([gradient], { attributes }) => {
    const { axis, exclusive, reverse } = attributes as { axis: number; exclusive: boolean; reverse: boolean };
    return [cumulativeSum(gradient!, axis, { exclusive, reverse: !reverse })];
  },
};

/** Running sum along an axis. `exclusive` leaves the element itself out; `reverse` runs from the end. */
export function cumulativeSum(
  x: Tensor,
  axis: number,
  { exclusive = false, reverse = false }: { exclusive?: boolean; reverse?: boolean } = {},
): Tensor {
  if (x.dtype === 'bool')
    throw new ShapeError(`cumulativeSum: ${x.toString()} is not a number; cast it first`);
  const normalized = normalizeAxis('cumulativeSum', axis, x.rank);
  return applyOne(cumulativeSumOperator, [x], x, { axis: normalized, exclusive, reverse });
}

function softmaxLike(name: string, onnxType: string, rule: (g: Tensor, y: Tensor, axis: number) => Tensor) {
  const operator: Operator = {
    name,
    lower: ({ emit, inputs, outputs, node }) =>
      void emit(onnxType, inputs, { axis: node.attributes['axis'] as number }, { outputs }),
    gradient: ([gradient], { outputs: [y], attributes }) => [
      rule(gradient!, y, attributes['axis'] as number),
    ],
  };
  return (x: Tensor, axis = -1): Tensor => {
    if (!isFloat(x.dtype)) throw new ShapeError(`${name}: ${x.toString()} is not floating point`);
    return applyOne(operator, [x], x, { axis: normalizeAxis(name, axis, x.rank) });
  };
}

/** Exponentials that sum to 1 along an axis (the last by default). */
export const softmax = softmaxLike('softmax', 'Softmax', (g, y, axis) =>
  multiply(y, subtract(g, sum(multiply(g, y), axis, true))),
);

/** Logarithm of {@link softmax}, computed without overflow. */
export const logSoftmax = softmaxLike('logSoftmax', 'LogSoftmax', (g, y, axis) =>
  subtract(g, multiply(exp(y), sum(g, axis, true))),
);

/** `log Σ eˣ` along an axis, computed without overflow; the axis is dropped. An axis full of −∞ gives NaN. */
export function logSumExp(x: Tensor, axis = -1): Tensor {
  const normalized = normalizeAxis('logSumExp', axis, x.rank);
  // The peak cancels out of the value, so its gradient is 0: the walk through ties is spared.
  const peak = stopGradient(max(x, normalized, true));
  const total = log(sum(exp(subtract(x, peak)), normalized, true));
  return reshape(add(total, peak), reducedShape(x.shape, [normalized], false));
}
