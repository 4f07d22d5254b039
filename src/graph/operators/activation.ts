/**
 * Activation functions.
 * @module
 */
import { customGradient } from '../gradients.js';
import { applyOne, type Operator } from '../operator.js';
import { ShapeError, isFloat, type Tensor } from '../tensor.js';
import { abs, add, exp, log, maximum, multiply, negate, square, subtract, unary } from './arithmetic.js';

/** `1 / (1 + e⁻ˣ)` */
export const sigmoid = unary('sigmoid', 'Sigmoid', (g, _x, y) => multiply(g, multiply(y, subtract(1, y))));

/** Hyperbolic tangent */
export const tanh = unary('tanh', 'Tanh', (g, _x, y) => multiply(g, subtract(1, multiply(y, y))));

const isPositiveOperator: Operator = {
  name: 'isPositive',
  lower: ({ emit, inputs, outputs, node }) => {
    // A hard sigmoid this steep is a step: one vectorised pass, a sixth of the time that Sign takes.
    if (node.outputs[0].dtype === 'float32') {
      emit('HardSigmoid', inputs, { alpha: { float: 3e38 }, beta: { float: 0 } }, { outputs });
    } else emit('Sign', inputs, {}, { outputs });
  },
  gradient: () => [undefined],
};

/** 1 where a number that is never negative exceeds 0 (by 1e-38 or more), else 0; its gradient is 0. */
function isPositive(x: Tensor): Tensor {
  return applyOne(isPositiveOperator, [x], x);
}

/** `max(x, 0)`, with gradient 0 at 0 */
export const relu = unary('relu', 'Relu', (g, _x, y) => multiply(g, isPositive(y)));

// Chebyshev coefficients of erfc(z)·exp(z²)/t with t = 2 / (2 + z), after Press et al., Numerical Recipes
// (3rd ed., §6.2.2); accurate to 1.2e-16. Needed because the CPU kernels have no double-precision Erf.
const ERFC_COEFFICIENTS = [
  -1.3026537197817094, 6.4196979235649026e-1, 1.9476473204185836e-2, -9.561514786808631e-3,
  -9.46595344482036e-4, 3.66839497852761e-4, 4.2523324806907e-5, -2.0278578112534e-5, -1.624290004647e-6,
  1.30365583558e-6, 1.5626441722e-8, -8.5238095915e-8, 6.529054439e-9, 5.059343495e-9, -9.91364156e-10,
  -2.27365122e-10, 9.6467911e-11, 2.394038e-12, -6.886027e-12, 8.94487e-13, 3.13092e-13, -1.12708e-13,
  3.81e-16, 7.106e-15, -1.523e-15, -9.4e-17, 1.21e-16, -2.8e-17,
];

const erfOperator: Operator = {
  name: 'erf',
  lower: ({ emit, constant, inputs: [x], outputs, node }) => {
    if (node.outputs[0].dtype === 'float32') {
      emit('Erf', [x], {}, { outputs });
      return;
    }
    const number = (value: number): string => constant('float64', [], [value]);
    const z = emit('Abs', [x]);
    const t = emit('Div', [number(2), emit('Add', [z, number(2)])]);
    const slope = emit('Sub', [emit('Mul', [t, number(4)]), number(2)]);
    let d = number(0);
    let previous = number(0);
    for (let j = ERFC_COEFFICIENTS.length - 1; j > 0; j--) {
      const sum = emit('Add', [
        emit('Sub', [emit('Mul', [slope, d]), previous]),
        number(ERFC_COEFFICIENTS[j]),
      ]);
      previous = d;
      d = sum;
    }
    const polynomial = emit('Sub', [
      emit('Mul', [number(0.5), emit('Add', [number(ERFC_COEFFICIENTS[0]), emit('Mul', [slope, d])])]),
      previous,
    ]);
    const exponent = emit('Sub', [polynomial, emit('Mul', [z, z])]);
    const complement = emit('Mul', [t, emit('Exp', [exponent])]);
    emit('Mul', [emit('Sign', [x]), emit('Sub', [number(1), complement])], {}, { outputs });
  },
  gradient: ([gradient], { inputs: [x] }) => [
    multiply(gradient!, multiply(exp(negate(square(x))), 2 / Math.sqrt(Math.PI))),
  ],
};

/** Error function. In float64 it is composed, accurate to about 1e-16. */
export function erf(x: Tensor): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError(`erf: ${x.toString()} is not floating point`);
  return applyOne(erfOperator, [x], x);
}

const geluOperator: Operator = {
  name: 'gelu',
  lower: ({ emit, inputs, outputs }) => void emit('Gelu', inputs, {}, { outputs, domain: 'com.microsoft' }),
  gradient: ([gradient], { inputs: [x] }) => {
    const cumulative = multiply(add(erf(multiply(x, Math.SQRT1_2)), 1), 0.5);
    const density = multiply(exp(multiply(square(x), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [multiply(gradient!, add(cumulative, multiply(x, density)))];
  },
};

/** Gaussian error linear unit `x·Φ(x)` (exact form, by {@link erf}); in float64 it is composed. */
export function gelu(x: Tensor): Tensor {
  if (!isFloat(x.dtype)) throw new ShapeError(`gelu: ${x.toString()} is not floating point`);
  if (x.dtype === 'float32') return applyOne(geluOperator, [x], x);
  return multiply(x, multiply(add(erf(multiply(x, Math.SQRT1_2)), 1), 0.5));
}

/** GELU's tanh approximation, as GPT-2 and T5 v1.1 use it. */
export function geluTanh(x: Tensor): Tensor {
  const inner = multiply(add(x, multiply(multiply(square(x), x), 0.044715)), Math.sqrt(2 / Math.PI));
  return multiply(multiply(x, 0.5), add(tanh(inner), 1));
}

/** `x · sigmoid(x)`, also called swish */
export function silu(x: Tensor): Tensor {
  return multiply(x, sigmoid(x));
}

/** `log(1 + eˣ)`, computed without overflow */
export function softplus(x: Tensor): Tensor {
  const value = add(maximum(x, 0), log(add(exp(negate(abs(x))), 1)));
  // Both terms have a kink at 0 that their sum has not: the gradient is written down instead.
  return customGradient(value, [x], (g) => [multiply(g, sigmoid(x))]);
}
