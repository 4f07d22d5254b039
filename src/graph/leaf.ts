/**
 * Leaves of the graph: inputs that are fed at run time, and constants.
 * @module
 */
import { applyOne, type OnnxConstant, type Operator } from './operator.js';
import {
  ShapeError,
  checkShape,
  formatShape,
  isFloat,
  sizeOf,
  type DType,
  type Shape,
  type Tensor,
} from './tensor.js';

/** Operator of every fed tensor: parameters, token ids, noise. Identity, not content, tells two inputs apart. */
export const inputOperator: Operator = { name: 'input', unique: true };

/**
 * A tensor whose numbers are fed when the program runs.
 *
 * @param name the feed's name, unique in a program; parameters use their dotted path.
 * @throws ShapeError if the name is empty, or a size is neither a whole number ≥ 0 nor a name.
 * @example
 * const tokens = input('tokens', 'int32', [batch, time]);
 */
export function input(name: string, dtype: DType, shape: Shape): Tensor {
  if (name === '') throw new ShapeError(`input: ${dtype}${formatShape(shape)} needs a name`);
  checkShape(`input '${name}'`, shape);
  return applyOne(inputOperator, [], { dtype, shape }, { name });
}

/** Name of a tensor made by {@link input}, or undefined if it is something else. */
export function inputName(tensor: Tensor): string | undefined {
  return tensor.node.operator === inputOperator ? (tensor.node.attributes['name'] as string) : undefined;
}

const constantOperator: Operator = {
  name: 'constant',
  lower: ({ emit, constant, outputs, node }) => {
    const { data } = node.attributes as { data: OnnxConstant['data'] };
    const [tensor] = node.outputs;
    emit('Identity', [constant(tensor.dtype, tensor.shape as number[], data)], {}, { outputs });
  },
};

/**
 * Numbers known when the graph is written.
 * @throws ShapeError if `data` has another length than `shape` asks for, or a fraction in an integer dtype.
 */
export function constant(dtype: DType, shape: readonly number[], data: OnnxConstant['data']): Tensor {
  checkShape('constant', shape);
  if (data.length !== sizeOf(shape)) {
    throw new ShapeError(`constant: ${data.length} numbers do not fill ${formatShape(shape)}`);
  }
  const fraction = isFloat(dtype) ? undefined : Array.from(data).find((value) => !Number.isInteger(value));
  if (fraction !== undefined) throw new ShapeError(`constant: ${fraction} is not of dtype ${dtype}`);
  return applyOne(constantOperator, [], { dtype, shape }, { data });
}

/** A constant of rank 0. */
export function scalar(dtype: DType, value: number): Tensor {
  return constant(dtype, [], [value]);
}

/** The constant of a node made by {@link constant}, or undefined. Used where an operator simplifies itself. */
export function constantValue(tensor: Tensor): OnnxConstant['data'] | undefined {
  return tensor.node.operator === constantOperator
    ? (tensor.node.attributes['data'] as OnnxConstant['data'])
    : undefined;
}
