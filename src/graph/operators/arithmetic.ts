/**
 * Elementwise arithmetic with broadcasting.
 * @module
 */
import { applyOne, type Operator } from '../operator.js';
import { ShapeError, broadcastShapes, isFloat, type Dim, type Shape, type Tensor } from '../tensor.js';
import { constantValue, scalar } from '../leaf.js';
import { sum } from './reduce.js';
import { reshape } from './shape.js';

/** A tensor, or a number that becomes a scalar constant of the other operand's dtype. */
export type Operand = Tensor | number;

/** Turns numbers into constants and checks that the dtypes agree. */
export function operands(operator: string, a: Operand, b: Operand): [Tensor, Tensor] {
  if (typeof a === 'number') {
    if (typeof b === 'number') throw new ShapeError(`${operator}: ${a} and ${b} are both plain numbers`);
    return [scalar(b.dtype, a), b];
  }
  const right = typeof b === 'number' ? scalar(a.dtype, b) : b;
  if (a.dtype !== right.dtype) {
    throw new ShapeError(`${operator}: ${a.toString()} and ${right.toString()} have different dtypes`);
  }
  return [a, right];
}

/** What kinds of dtype an elementwise operator computes with. */
type DTypeKind = 'number' | 'whole number' | 'bool' | 'any';

function checkKind(operator: string, x: Tensor, kind: DTypeKind): void {
  const fits = {
    number: x.dtype !== 'bool',
    'whole number': x.dtype === 'int64' || x.dtype === 'int32',
    bool: x.dtype === 'bool',
    any: true,
  };
  if (!fits[kind]) throw new ShapeError(`${operator}: ${x.toString()} is not of a ${kind} dtype`);
}

/** Sums a broadcast gradient back to the shape of the operand that was stretched. */
export function sumTo(gradient: Tensor, shape: Shape): Tensor {
  const offset = gradient.rank - shape.length;
  const axes: number[] = [];
  gradient.shape.forEach((dim: Dim, axis) => {
    if (axis < offset || (shape[axis - offset] === 1 && dim !== 1)) axes.push(axis);
  });
  return axes.length === 0 ? gradient : reshape(sum(gradient, axes), shape);
}

type BinaryRule = (
  gradient: Tensor,
  a: Tensor,
  b: Tensor,
  output: Tensor,
) => [Tensor | undefined, Tensor | undefined];

/** Makes an elementwise binary operator that lowers to one ONNX node. `gradient` may return unreduced gradients. */
function binary(
  name: string,
  onnxType: string,
  rule?: BinaryRule,
  kind: DTypeKind = 'number',
): (a: Operand, b: Operand) => Tensor {
  const operator: Operator = {
    name,
    lower: ({ emit, inputs, outputs }) => void emit(onnxType, inputs, {}, { outputs }),
    gradient:
      rule &&
      (([gradient], { inputs: [a, b], outputs: [output] }) => {
        const parts = rule(gradient!, a, b, output);
        return [parts[0] && sumTo(parts[0], a.shape), parts[1] && sumTo(parts[1], b.shape)];
      }),
  };
  return (a, b) => {
    const [left, right] = operands(name, a, b);
    checkKind(name, left, kind);
    return applyOne(operator, [left, right], {
      dtype: left.dtype,
      shape: broadcastShapes(name, left.shape, right.shape),
    });
  };
}

/** `a + b` */
export const add = binary('add', 'Add', (g) => [g, g]);

/** `a − b` */
export const subtract = binary('subtract', 'Sub', (g) => [g, negate(g)]);

/** `a · b`, elementwise */
export const multiply = binary('multiply', 'Mul', (g, a, b) => [multiply(g, b), multiply(g, a)]);

/** `a / b`; on integers the quotient is cut towards zero. */
export const divide = binary('divide', 'Div', (g, _a, b, output) => {
  const quotient = divide(g, b);
  return [quotient, negate(multiply(quotient, output))];
});

/** Remainder with the sign of the divisor; integers only, no gradient. */
export const modulo = binary('modulo', 'Mod', undefined, 'whole number');

/**
 * `a` to the power of `b`. The gradient of the exponent needs `a > 0`; a constant exponent works for any `a` that
 * the power itself is defined for.
 */
export const power = binary('power', 'Pow', (g, a, b, output) => [
  // x⁰ is constant, and 0 · 0⁻¹ would be NaN.
  Array.from(constantValue(b) ?? [1]).every((exponent) => exponent === 0)
    ? undefined
    : multiply(g, multiply(b, power(a, subtract(b, 1)))),
  b.node.operator.name === 'constant' ? undefined : multiply(g, multiply(output, log(a))),
]);

/** Elementwise maximum; where both are equal the gradient goes to `a`. */
export const maximum = binary('maximum', 'Max', (g, a, b) => {
  const first = cast(greaterEqual(a, b), g.dtype);
  return [multiply(g, first), multiply(g, subtract(1, first))];
});

/** Elementwise minimum; where both are equal the gradient goes to `a`. */
export const minimum = binary('minimum', 'Min', (g, a, b) => {
  const first = cast(lessEqual(a, b), g.dtype);
  return [multiply(g, first), multiply(g, subtract(1, first))];
});

/** Makes an elementwise unary operator that lowers to one ONNX node. */
export function unary(
  name: string,
  onnxType: string,
  rule?: (gradient: Tensor, x: Tensor, output: Tensor) => Tensor | undefined,
): (x: Tensor) => Tensor {
  const operator: Operator = {
    name,
    lower: ({ emit, inputs, outputs }) => void emit(onnxType, inputs, {}, { outputs }),
    gradient: rule && (([gradient], { inputs: [x], outputs: [output] }) => [rule(gradient!, x, output)]),
  };
  return (x) => {
    const onIntegers = name === 'negate' || name === 'abs' || name === 'sign';
    if (!isFloat(x.dtype) && (!onIntegers || x.dtype === 'bool')) {
      throw new ShapeError(`${name}: ${x.toString()} is not floating point`);
    }
    return applyOne(operator, [x], x);
  };
}

/** `−x` */
export const negate = unary('negate', 'Neg', (g) => negate(g));

/** `|x|`, with gradient 0 at 0 */
export const abs = unary('abs', 'Abs', (g, x) => multiply(g, sign(x)));

/** −1, 0 or 1; its gradient is 0 everywhere. */
export const sign = unary('sign', 'Sign', () => undefined);

/** `√x` */
export const sqrt = unary('sqrt', 'Sqrt', (g, _x, y) => divide(multiply(g, 0.5), y));

/** `1 / x` */
export const reciprocal = unary('reciprocal', 'Reciprocal', (g, _x, y) =>
  negate(multiply(g, multiply(y, y))),
);

/** `eˣ` */
export const exp = unary('exp', 'Exp', (g, _x, y) => multiply(g, y));

/** Natural logarithm */
export const log = unary('log', 'Log', (g, x) => divide(g, x));

/** Sine of radians */
export const sin = unary('sin', 'Sin', (g, x) => multiply(g, cos(x)));

/** Cosine of radians */
export const cos = unary('cos', 'Cos', (g, x) => negate(multiply(g, sin(x))));

/** Largest whole number ≤ x; its gradient is 0 everywhere. */
export const floor = unary('floor', 'Floor', () => undefined);

/** `x · x` */
export function square(x: Tensor): Tensor {
  return multiply(x, x);
}

/** Makes an elementwise comparison with a bool result. */
function comparison(
  name: string,
  onnxType: string,
  kind: DTypeKind = 'number',
): (a: Operand, b: Operand) => Tensor {
  const operator: Operator = {
    name,
    lower: ({ emit, inputs, outputs }) => void emit(onnxType, inputs, {}, { outputs }),
  };
  return (a, b) => {
    const [left, right] = operands(name, a, b);
    checkKind(name, left, kind);
    const shape = broadcastShapes(name, left.shape, right.shape);
    return applyOne(operator, [left, right], { dtype: 'bool', shape });
  };
}

/** `a = b`, elementwise */
export const equal = comparison('equal', 'Equal', 'any');
/** `a < b`, elementwise */
export const less = comparison('less', 'Less');
/** `a ≤ b`, elementwise */
export const lessEqual = comparison('lessEqual', 'LessOrEqual');
/** `a > b`, elementwise */
export const greater = comparison('greater', 'Greater');
/** `a ≥ b`, elementwise */
export const greaterEqual = comparison('greaterEqual', 'GreaterOrEqual');
/** Both, elementwise on bool tensors */
export const logicalAnd = comparison('logicalAnd', 'And', 'bool');
/** Either, elementwise on bool tensors */
export const logicalOr = comparison('logicalOr', 'Or', 'bool');

const notOperator: Operator = {
  name: 'logicalNot',
  lower: ({ emit, inputs, outputs }) => void emit('Not', inputs, {}, { outputs }),
};

/** The opposite of a bool tensor */
export function logicalNot(x: Tensor): Tensor {
  checkKind('logicalNot', x, 'bool');
  return applyOne(notOperator, [x], x);
}

const castOperator: Operator = {
  name: 'cast',
  lower: ({ emit, inputs, outputs, node }) =>
    void emit('Cast', inputs, { to: `dtype:${node.outputs[0].dtype}` }, { outputs }),
  gradient: ([gradient], { inputs: [x] }) => [isFloat(x.dtype) ? cast(gradient!, x.dtype) : undefined],
};

/** The same values in another dtype; a bool becomes 0 or 1, a float is cut towards zero. */
export function cast(x: Tensor, dtype: Tensor['dtype']): Tensor {
  return x.dtype === dtype ? x : applyOne(castOperator, [x], { dtype, shape: x.shape }, { dtype });
}

const whereOperator: Operator = {
  name: 'where',
  lower: ({ emit, inputs, outputs, node }) => {
    if (node.outputs[0].dtype !== 'bool') {
      emit('Where', inputs, {}, { outputs });
      return;
    }
    // The CPU kernels have no Where that chooses between bools.
    const [condition, a, b] = inputs as [string, string, string];
    emit('Or', [emit('And', [condition, a]), emit('And', [emit('Not', [condition]), b])], {}, { outputs });
  },
  gradient: ([gradient], { inputs: [condition, a, b] }) => [
    undefined,
    sumTo(where(condition, gradient!, 0), a.shape),
    sumTo(where(condition, 0, gradient!), b.shape),
  ],
};

/**
 * `a` where `condition` is true, else `b`; all three broadcast.
 * @throws ShapeError if the condition is not bool or the shapes do not broadcast.
 */
export function where(condition: Tensor, a: Operand, b: Operand): Tensor {
  if (condition.dtype !== 'bool')
    throw new ShapeError(`where: condition ${condition.toString()} is not bool`);
  const [left, right] = operands('where', a, b);
  const shape = broadcastShapes('where', condition.shape, broadcastShapes('where', left.shape, right.shape));
  return applyOne(whereOperator, [condition, left, right], { dtype: left.dtype, shape });
}
