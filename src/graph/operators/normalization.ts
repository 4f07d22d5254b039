/**
 * Layer and root-mean-square normalisation over the last axis.
 * @module
 */
import { apply, type Lowering, type Operator } from '../operator.js';
import { ShapeError, isFloat, sameShape, type Tensor } from '../tensor.js';
import { multiply, subtract } from './arithmetic.js';
import { mean, sum } from './reduce.js';

/** Emits `1 / √(mean(x²) + epsilon)` over the last axis, for dtypes without a fused kernel. */
function inverseRootMeanSquare({ emit, constant, node }: Lowering, x: string, output: string): void {
  const { dtype } = node.outputs[0];
  const squares = emit('ReduceMean', [emit('Mul', [x, x]), constant('int64', [1], [-1])], { keepdims: 1 });
  const shifted = emit('Add', [squares, constant(dtype, [], [node.attributes['epsilon'] as number])]);
  emit('Reciprocal', [emit('Sqrt', [shifted])], {}, { outputs: [output] });
}

function outputName(lowering: Lowering, index: number): string {
  return lowering.outputs[index] || `${lowering.outputs.find((name) => name !== '')!}/out${index}`;
}

const rmsNormOperator: Operator = {
  name: 'rmsNorm',
  lower: (lowering) => {
    const { emit, inputs, node } = lowering;
    const [y, inverse] = [outputName(lowering, 0), outputName(lowering, 1)];
    if (node.outputs[0].dtype === 'float32') {
      const attributes = {
        axis: -1,
        epsilon: { float: node.attributes['epsilon'] as number },
        stash_type: 1,
      };
      emit('SimplifiedLayerNormalization', inputs, attributes, { outputs: [y, inverse] });
      return;
    }
    inverseRootMeanSquare(lowering, inputs[0], inverse);
    emit('Mul', [emit('Mul', [inputs[0], inverse]), inputs[1]], {}, { outputs: [y] });
  },
  gradient: ([gradient, ...statistics], { inputs: [x, weight], outputs: [, inverse] }) => {
    refuseStatistics('rmsNorm', statistics);
    const normalized = multiply(x, inverse);
    const leading = x.shape.slice(0, -1).map((_, axis) => axis);
    const scaled = multiply(gradient!, weight);
    const radial = multiply(normalized, mean(multiply(scaled, normalized), -1, true));
    return [multiply(subtract(scaled, radial), inverse), sum(multiply(gradient!, normalized), leading)];
  },
};

const layerNormOperator: Operator = {
  name: 'layerNorm',
  lower: (lowering) => {
    const { emit, constant, inputs, node } = lowering;
    const [y, average, inverse] = [0, 1, 2].map((i) => outputName(lowering, i)) as [string, string, string];
    if (node.outputs[0].dtype === 'float32') {
      const attributes = { axis: -1, epsilon: { float: node.attributes['epsilon'] as number } };
      emit('LayerNormalization', inputs, attributes, { outputs: [y, average, inverse] });
      return;
    }
    emit('ReduceMean', [inputs[0], constant('int64', [1], [-1])], { keepdims: 1 }, { outputs: [average] });
    const centred = emit('Sub', [inputs[0], average]);
    inverseRootMeanSquare(lowering, centred, inverse);
    const scaled = emit('Mul', [emit('Mul', [centred, inverse]), inputs[1]]);
    emit('Add', [scaled, inputs[2]], {}, { outputs: [y] });
  },
  gradient: ([gradient, ...statistics], { inputs: [x, weight], outputs: [, average, inverse] }) => {
    refuseStatistics('layerNorm', statistics);
    const normalized = multiply(subtract(x, average), inverse);
    const leading = x.shape.slice(0, -1).map((_, axis) => axis);
    const scaled = multiply(gradient!, weight);
    const centred = subtract(scaled, mean(scaled, -1, true));
    const radial = multiply(normalized, mean(multiply(scaled, normalized), -1, true));
    return [
      multiply(subtract(centred, radial), inverse),
      sum(multiply(gradient!, normalized), leading),
      sum(gradient!, leading),
    ];
  },
};

/** The saved statistics only serve the first derivative: a second one through them would be silently wrong. */
function refuseStatistics(operator: string, gradients: readonly (Tensor | undefined)[]): void {
  if (gradients.some((gradient) => gradient !== undefined)) {
    throw new ShapeError(`${operator}: second derivatives are not available`);
  }
}

function check(operator: string, x: Tensor, ...vectors: Tensor[]): void {
  if (!isFloat(x.dtype) || x.rank === 0)
    throw new ShapeError(`${operator}: ${x.toString()} cannot be normalised`);
  for (const vector of vectors) {
    if (vector.dtype !== x.dtype || !sameShape(vector.shape, [x.shape[x.rank - 1]])) {
      throw new ShapeError(
        `${operator}: ${vector.toString()} does not match the last axis of ${x.toString()}`,
      );
    }
  }
}

/**
 * `weight · x / √(mean(x²) + epsilon)` over the last axis (T5, Llama). Statistics are kept in the dtype of `x`.
 *
 * @param x `[..., size]`
 * @param weight `[size]`
 * @throws ShapeError if the weight does not match.
 */
export function rmsNorm(x: Tensor, weight: Tensor, epsilon = 1e-6): Tensor {
  check('rmsNorm', x, weight);
  const inverse = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  return apply(rmsNormOperator, [x, weight], [x, inverse], { epsilon })[0];
}

/**
 * `weight · (x − mean) / √(variance + epsilon) + bias` over the last axis.
 *
 * @param x `[..., size]`
 * @param weight `[size]`
 * @param bias `[size]`
 * @throws ShapeError if weight or bias do not match.
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, epsilon = 1e-5): Tensor {
  check('layerNorm', x, weight, bias);
  const statistic = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  return apply(layerNormOperator, [x, weight, bias], [x, statistic, statistic], { epsilon })[0];
}
