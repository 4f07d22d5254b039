import { describe, expect, test } from 'vitest';
import * as graph from './index.js';
import { input, type Tensor } from './index.js';

const float = (...shape: (number | string)[]): Tensor => input('f', 'float32', shape);
const double = (...shape: (number | string)[]): Tensor => input('d', 'float64', shape);
const whole = (...shape: (number | string)[]): Tensor => input('i', 'int64', shape);
const bool = (...shape: (number | string)[]): Tensor => input('b', 'bool', shape);

const elementwise = {
  add: graph.add,
  subtract: graph.subtract,
  multiply: graph.multiply,
  divide: graph.divide,
  power: graph.power,
  maximum: graph.maximum,
  minimum: graph.minimum,
  less: graph.less,
  lessEqual: graph.lessEqual,
  greater: graph.greater,
  greaterEqual: graph.greaterEqual,
};

describe.each(Object.entries(elementwise))('%s', (name, operator) => {
  test('names both shapes or dtypes', () => {
    expect(() => operator(float(2, 3), float(4))).toThrow(`${name}: shapes [2, 3] and [4] do not broadcast`);
    expect(() => operator(float('batch'), float('time'))).toThrow(
      `${name}: shapes [batch] and [time] do not`,
    );
    expect(() => operator(float('batch'), float(3))).toThrow('[batch] and [3]');
    expect(() => operator(float(2), double(2))).toThrow(
      `${name}: float32[2] and float64[2] have different dtypes`,
    );
    expect(() => operator(bool(2), bool(2))).toThrow(`${name}: bool[2] is not of a number dtype`);
    expect(() => operator(1, 2)).toThrow(`${name}: 1 and 2 are both plain numbers`);
    expect(() => operator(whole(2), 0.5)).toThrow('0.5 is not of dtype int64');
    expect(() => operator(float('batch', 1), float(1, 'time'))).not.toThrow();
  });
});

const unary = {
  sqrt: graph.sqrt,
  reciprocal: graph.reciprocal,
  exp: graph.exp,
  log: graph.log,
  sin: graph.sin,
  cos: graph.cos,
  floor: graph.floor,
  sigmoid: graph.sigmoid,
  tanh: graph.tanh,
  relu: graph.relu,
  erf: graph.erf,
  gelu: graph.gelu,
  softmax: graph.softmax,
  logSoftmax: graph.logSoftmax,
  mean: graph.mean,
  argMax: graph.argMax,
};

test.each(Object.entries(unary))('%s refuses integers', (name, operator) => {
  expect(() => operator(whole(2, 3))).toThrow(`${name}: int64[2, 3] is not floating point`);
});

/** What is written, and what the message must say. */
const refusals: readonly (readonly [string, () => unknown, RegExp])[] = [
  ['input with a fraction', () => float(2.5), /input 'f': \[2\.5\] has '2\.5'/],
  ['input with a negative size', () => float(-1), /input 'f': \[-1\]/],
  ['input with a number as name', () => float('3'), /neither a whole number ≥ 0 nor a name/],
  ['input without a name', () => input('', 'float32', [2]), /input: float32\[2\] needs a name/],
  [
    'constant of another length',
    () => graph.constant('float32', [2, 2], [1, 2]),
    /2 numbers do not fill \[2, 2\]/,
  ],
  ['constant with a fraction', () => graph.constant('int32', [1], [1.5]), /1\.5 is not of dtype int32/],
  ['sizeOf a run-time shape', () => graph.sizeOf([2, 'n']), /size of \[2, n\] is known only at run time/],
  ['negate a bool', () => graph.negate(bool(2)), /negate: bool\[2\]/],
  ['abs of a bool', () => graph.abs(bool(2)), /abs: bool\[2\]/],
  [
    'modulo of floats',
    () => graph.modulo(float(2), 2),
    /modulo: float32\[2\] is not of a whole number dtype/,
  ],
  ['equal of two dtypes', () => graph.equal(whole(2), float(2)), /equal: int64\[2\] and float32\[2\]/],
  [
    'logicalAnd of floats',
    () => graph.logicalAnd(float(2), float(2)),
    /logicalAnd: float32\[2\] is not of a bool dtype/,
  ],
  ['logicalOr of floats', () => graph.logicalOr(float(2), float(2)), /logicalOr: float32\[2\]/],
  ['logicalNot of floats', () => graph.logicalNot(float(2)), /logicalNot: float32\[2\]/],
  [
    'where without a bool',
    () => graph.where(float(2), 1, float(2)),
    /where: condition float32\[2\] is not bool/,
  ],
  ['where of unfit shapes', () => graph.where(bool(3), float(2), 0), /where: shapes \[3\] and \[2\]/],
  ['where of two dtypes', () => graph.where(bool(2), float(2), double(2)), /float32\[2\] and float64\[2\]/],
  ['sum over a missing axis', () => graph.sum(float(2, 3), 2), /sum: axis 2 is outside a tensor of rank 2/],
  ['sum over an axis twice', () => graph.sum(float(2, 3), [1, -1]), /sum: an axis is named twice/],
  ['sum of a bool', () => graph.sum(bool(2)), /sum: bool\[2\] is not a number/],
  ['max of nothing', () => graph.max(float(2, 0), 1), /max: float32\[2, 0\] has nothing to choose from/],
  ['cumulativeSum of a bool', () => graph.cumulativeSum(bool(2), 0), /cumulativeSum: bool\[2\]/],
  ['cumulativeSum of a scalar', () => graph.cumulativeSum(float(), 0), /cumulativeSum: axis 0 is outside/],
  ['softmax of a scalar', () => graph.softmax(float()), /softmax: axis -1 is outside a tensor of rank 0/],
  ['logSumExp of a missing axis', () => graph.logSumExp(float(2), 1), /logSumExp: axis 1/],
  [
    'matmul of unfit sizes',
    () => graph.matmul(float(2, 3), float(4, 5)),
    /matmul: inner sizes of float32\[2, 3\] and float32\[4, 5\]/,
  ],
  [
    'matmul transposed',
    () => graph.matmul(float(2, 3), float(3, 5), { transposeA: true }),
    /float32\[2, 3\]ᵀ and float32\[3, 5\]/,
  ],
  [
    'matmul of a vector',
    () => graph.matmul(float(3), float(3, 5)),
    /float32\[3\] and float32\[3, 5\] must both have rank 2/,
  ],
  [
    'matmul of two dtypes',
    () => graph.matmul(float(2, 3), double(3, 5)),
    /float32\[2, 3\] and float64\[3, 5\] have unfit dtypes/,
  ],
  ['matmul of batches', () => graph.matmul(float(2, 3, 4), float(3, 4, 5)), /matmul: shapes \[2\] and \[3\]/],
  [
    'reshape to another count',
    () => graph.reshape(float(2, 3), [4, 2]),
    /reshape: \[2, 3\] does not fit into \[4, 2\]/,
  ],
  ['reshape with two unknowns', () => graph.reshape(float(2, 3), [-1, -1]), /reshape: \[2, 3\]/],
  [
    'reshape to negative sizes',
    () => graph.reshape(float(6), [-2, -3]),
    /reshape: \[6\] does not fit into \[-2, -3\]/,
  ],
  [
    'reshape to another run-time size',
    () => graph.reshape(float('n', 2), ['m', 2]),
    /\[n, 2\] does not fit into \[m, 2\]/,
  ],
  [
    'reshape that loses a run-time size',
    () => graph.reshape(float('n', 2), [2]),
    /\[n, 2\] does not fit into \[2\]/,
  ],
  [
    'reshape to a multiple of a run-time size',
    () => graph.reshape(float('n', 4), [-1, 2]),
    /\[n, 4\] does not fit/,
  ],
  [
    'reshape of nothing with an unknown',
    () => graph.reshape(float(0, 2), [-1, 0]),
    /\[0, 2\] does not fit into \[-1, 0\]/,
  ],
  [
    'transpose by no order',
    () => graph.transpose(float(2, 3), [0, 0]),
    /transpose: \[0, 0\] is not an order of the axes of \[2, 3\]/,
  ],
  [
    'transpose by too long an order',
    () => graph.transpose(float(2, 3), [0, 1, 1]),
    /\[0, 1, 1\] is not an order/,
  ],
  [
    'broadcastTo another size',
    () => graph.broadcastTo(float(2), [3]),
    /broadcastTo: \[2\] does not stretch to \[3\]/,
  ],
  ['broadcastTo fewer axes', () => graph.broadcastTo(float(1, 1), [1]), /\[1, 1\] does not stretch to \[1\]/],
  ['fill with a fraction', () => graph.fill('float32', [1.5], 0), /fill: \[1\.5\]/],
  ['range to a fraction', () => graph.range(2.5), /range: \[2\.5\]/],
  ['concat of nothing', () => graph.concat([], 0), /concat: needs at least one tensor/],
  [
    'concat of unfit shapes',
    () => graph.concat([float(2, 3), float(2, 4)], 0),
    /float32\[2, 3\] and float32\[2, 4\] do not join/,
  ],
  [
    'concat of two dtypes',
    () => graph.concat([float(2), double(2)], 0),
    /float32\[2\] and float64\[2\] do not join/,
  ],
  [
    'concat to a wrong size',
    () => graph.concat([float(2), float(3)], 0, { size: 6 }),
    /pieces of \[2, 3\] make 5, not 6/,
  ],
  [
    'concat with unfit counts',
    () => graph.concat([float('a'), float('b')], 0, { counts: whole(3) }),
    /concat: counts int64\[3\] must be int64\[2\]/,
  ],
  [
    'split to a wrong total',
    () => graph.split(float(2, 5), [2, 2], 1),
    /split: sizes \[2, 2\] do not add up to axis 1 of \[2, 5\]/,
  ],
  [
    'split with unfit counts',
    () => graph.split(float(5), ['a', 'b'], 0, float(2)),
    /split: counts float32\[2\] must be int64\[2\]/,
  ],
  ['split into nothing', () => graph.split(float(0), [], 0), /split: needs at least one size/],
  ['stack of nothing', () => graph.stack([]), /stack: needs at least one tensor/],
  [
    'stack of unfit shapes',
    () => graph.stack([float(2), float(3)]),
    /stack: float32\[2\] and float32\[3\] differ/,
  ],
  [
    'unstack of a run-time size',
    () => graph.unstack(float('n', 2)),
    /unstack: float32\[n, 2\] needs a static first axis/,
  ],
  ['unstack of nothing', () => graph.unstack(float(0, 2)), /unstack: float32\[0, 2\]/],
  [
    'slice outside',
    () => graph.slice(float(2, 3), 1, 1, 4),
    /slice: 1…4 step 1 does not lie in axis 1 of \[2, 3\]/,
  ],
  ['slice of a run-time size', () => graph.slice(float('n'), 0, 0, 1), /axis 0 of \[n\]/],
  ['slice at a fraction', () => graph.slice(float(3), 0, 0.5, 2), /slice: 0\.5…2/],
  ['slice backwards', () => graph.slice(float(3), 0, 2, 1), /slice: 2…1/],
  ['slice without a step', () => graph.slice(float(3), 0, 0, 2, 0), /step 0/],
  [
    'pad by less than nothing',
    () => graph.pad(float(3), 0, -1, 0),
    /pad: cannot add -1 and 0 to axis 0 of \[3\]/,
  ],
  [
    'gather by floats',
    () => graph.gather(float(3), float(2)),
    /gather: indices float32\[2\] must be int32 or int64/,
  ],
  ['gather from a scalar', () => graph.gather(float(), whole(2)), /gather: axis 0 is outside/],
  [
    'gatherElements of two ranks',
    () => graph.gatherElements(float(2, 3), whole(2)),
    /float32\[2, 3\] and indices int64\[2\] differ in rank/,
  ],
  [
    'gatherElements outside',
    () => graph.gatherElements(float(2, 3), whole(3, 3)),
    /int64\[3, 3\] reach outside float32\[2, 3\]/,
  ],
  [
    'scatterAdd of unfit updates',
    () => graph.scatterAdd(float(4, 2), whole(3, 2), float(2, 2), 0),
    /float32\[4, 2\] cannot take float32\[2, 2\] at indices \[3, 2\]/,
  ],
  [
    'scatterAdd outside',
    () => graph.scatterAdd(float(4, 2), whole(3, 3), float(3, 3), 0),
    /float32\[4, 2\] cannot take/,
  ],
  [
    'scatterAdd of two dtypes',
    () => graph.scatterAdd(float(4), whole(2), double(2), 0),
    /float32\[4\] cannot take float64\[2\]/,
  ],
  [
    'exchangeRows of a matrix order',
    () => graph.exchangeRows(float(3, 2), whole(3, 1), whole(3)),
    /index int64\[3, 1\]/,
  ],
  [
    'exchangeRows of too few places',
    () => graph.exchangeRows(float(3, 2), whole(5), whole(5), { repeats: 2 }),
    /float32\[3, 2\] with 2 copies/,
  ],
  [
    'exchangeRows of a scalar',
    () => graph.exchangeRows(float(), whole(1), whole(1)),
    /exchangeRows: float32\[\]/,
  ],
  ['oneHot of floats', () => graph.oneHot(float(3), 4), /oneHot: indices float32\[3\]/],
  ['oneHot to a fraction', () => graph.oneHot(whole(3), 1.5), /1\.5/],
  [
    'topK of too many',
    () => graph.topK(float(2, 3), 4),
    /topK: k = 4 does not fit the last axis of float32\[2, 3\]/,
  ],
  ['topK of none', () => graph.topK(float(3), 0), /topK: k = 0/],
  ['topK of a bool', () => graph.topK(bool(3), 1), /topK: bool\[3\] is not a number/],
  [
    'argSort of a matrix',
    () => graph.argSort(float(2, 3)),
    /argSort: float32\[2, 3\] must be a static vector/,
  ],
  ['invertPermutation of floats', () => graph.invertPermutation(float(3)), /invertPermutation: float32\[3\]/],
  [
    'rmsNorm of an unfit weight',
    () => graph.rmsNorm(float(2, 3), float(2)),
    /float32\[2\] does not match the last axis of float32\[2, 3\]/,
  ],
  [
    'layerNorm of an unfit bias',
    () => graph.layerNorm(float(2, 3), float(3), double(3)),
    /float64\[3\] does not match the last axis of float32\[2, 3\]/,
  ],
  [
    'rmsNorm of a scalar',
    () => graph.rmsNorm(float(), float(1)),
    /rmsNorm: float32\[\] cannot be normalised/,
  ],
  [
    'conv2d of unfit channels',
    () => graph.conv2d(float(1, 3, 5, 5), float(4, 2, 3, 3)),
    /float32\[1, 3, 5, 5\] and weight float32\[4, 2, 3, 3\]/,
  ],
  [
    'rotatePairs of an odd size',
    () => graph.rotatePairs(float(1, 1, 2, 3), float(2, 1), float(2, 1)),
    /float32\[1, 1, 2, 3\] does not fit tables float32\[2, 1\]/,
  ],
  [
    'rotatePairs by unfit tables',
    () => graph.rotatePairs(float(1, 1, 2, 4), float(2, 2), float(2, 1)),
    /float32\[2, 2\] and float32\[2, 1\]/,
  ],
];

test.each(refusals)('%s', (_name, write, message) => {
  expect(write).toThrow(graph.ShapeError);
  expect(write).toThrow(message);
});
