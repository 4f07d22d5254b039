/**
 * Symbolic tensors, operators, shapes and gradients. Knows nothing of models.
 * @module
 */
export * from './tensor.js';
export type { Lowering, OnnxAttribute, OnnxConstant, OnnxGraph, OnnxNode, Operator } from './operator.js';
export * from './leaf.js';
export * from './traverse.js';
export * from './simplify.js';
export { rewrite, type Replacement } from './rewrite.js';
export { splitStages, type Cut, type Stage } from './stages.js';
export {
  customGradient,
  gradients,
  stopGradient,
  type CustomGradient,
  type GradientOptions,
} from './gradients.js';
export {
  abs,
  add,
  cast,
  cos,
  divide,
  equal,
  exp,
  floor,
  greater,
  greaterEqual,
  less,
  lessEqual,
  log,
  logicalAnd,
  logicalNot,
  logicalOr,
  maximum,
  minimum,
  modulo,
  multiply,
  negate,
  power,
  reciprocal,
  sign,
  sin,
  sqrt,
  square,
  subtract,
  where,
  type Operand,
} from './operators/arithmetic.js';
export {
  cumulativeSum,
  logSoftmax,
  logSumExp,
  max,
  mean,
  min,
  softmax,
  sum,
  type Axes,
} from './operators/reduce.js';
export { erf, gelu, geluTanh, relu, sigmoid, silu, softplus, tanh } from './operators/activation.js';
export { concat, split, stack, unstack } from './operators/joining.js';
export {
  broadcastTo,
  fill,
  pad,
  range,
  reshape,
  shapeSize,
  slice,
  transpose,
  zerosLike,
} from './operators/shape.js';
export { matmul, type MatmulOptions } from './operators/matmul.js';
export {
  BLOCK_SIZE,
  quantisedMatmul,
  type QuantisedMatrix,
  type QuantisedPrecision,
} from './operators/quantised-matmul.js';
export {
  argMax,
  argSort,
  exchangeRows,
  gather,
  gatherElements,
  invertPermutation,
  oneHot,
  scatterAdd,
  topK,
} from './operators/indexing.js';
export { layerNorm, rmsNorm } from './operators/normalization.js';
export { conv1d, conv2d, type Conv2dOptions } from './operators/convolution.js';
export { rotatePairs, type RotationOptions } from './operators/rotary.js';
export { scan, type ScanStep } from './operators/scan.js';
