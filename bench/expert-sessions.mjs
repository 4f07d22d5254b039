/**
 * Experts of 4 and 8 bits as small sessions, one JSON line for each: how long one takes to open, to run for one token and to
 * release, what it holds beside its weights, and whether memory stays where it is over many of them. Other ways to
 * multiply the same blocks stand behind: weights as inputs, and the operator QMoE over 16 experts.
 *
 *   node --expose-gc bench/expert-sessions.mjs [--threads 2] [--kept 100] [--cycles 1000]
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { FeedForwardBank } from '../dist/moe/index.js';
import { zeros } from '../dist/nn/index.js';
import { encodeModel } from '../dist/runtime/index.js';
import { quantise } from '../dist/serve/index.js';
import { openQuantisedExpert } from '../dist/serve/quantised/expert-program.js';
import { argument, quantiles } from './config.mjs';

const threads = Number(argument('threads', '2'));
const kept = Number(argument('kept', '100'));
const cycles = Number(argument('cycles', '1000'));
const [hiddenSize, intermediateSize] = [2048, 1024];
const bank = new FeedForwardBank(
  { numExperts: 1, hiddenSize, intermediateSize, activation: 'swiglu' },
  zeros,
  zeros,
);
const residentBytes = () => {
  globalThis.gc?.();
  return process.memoryUsage().rss;
};
const timed = async (times, work) => {
  const began = performance.now();
  const result = await work();
  times.push(performance.now() - began);
  return result;
};

async function sessions(bits, spinWhileRunning) {
  const noise = Float32Array.from(
    { length: hiddenSize * intermediateSize },
    (_, i) => (Math.imul(i, 0x9e3779b1) >> 8) / 2 ** 24,
  );
  const round = (outSize, inSize) =>
    quantise(noise, { bits, outSize, inSize, layout: 'outIn', mode: 'symmetric' });
  const gate = round(intermediateSize, hiddenSize);
  const matrices = { gate, up: gate, down: round(hiddenSize, intermediateSize) };
  const bytes = Object.values(matrices).reduce(
    (sum, { values, scales }) => sum + values.byteLength + scales.byteLength,
    0,
  );
  const open = () =>
    openQuantisedExpert(bank, { matrices, biases: {} }, hiddenSize, { threads, spinWhileRunning });
  const [row, into] = [new Float32Array(hiddenSize).fill(0.01), new Float32Array(hiddenSize)];
  const [opening, running, releasing] = [[], [], []];
  const before = residentBytes();
  const experts = [];
  for (let i = 0; i < kept; i++) experts.push(await timed(opening, open));
  for (const expert of experts) await expert.run(row, into, 1);
  const held = (residentBytes() - before) / kept;
  for (let round = 0; round < 3; round++)
    for (const expert of experts) await timed(running, () => expert.run(row, into, 1));
  for (const expert of experts) await timed(releasing, () => expert.release());
  const after = [];
  for (let i = 0; i < cycles; i++) {
    const expert = await open();
    await expert.run(row, into, 1);
    await expert.release();
    if ((i + 1) % Math.ceil(cycles / 4) === 0) after.push(Math.round(residentBytes() / 1e6));
  }
  return {
    what: `session, int${bits}${spinWhileRunning ? ', spinning while it runs' : ''}`,
    bytes,
    openMs: quantiles(opening).medianMs,
    ...quantiles(running),
    gigabytesPerSecond: bytes / quantiles(running).medianMs / 1e6,
    releaseMs: quantiles(releasing).medianMs,
    heldPerByte: held / bytes,
    residentMegabytes: after,
  };
}

/** The same blocks in other operators: a graph of one node. */
async function node(what, type, attributes, weights, outputs, asInputs) {
  const constants = new Map(asInputs ? [] : Object.entries(weights));
  const fed = Object.entries(asInputs ? weights : {});
  const inputs = [
    ...Object.entries(outputs.inputs).map(([name, shape]) => ({ name, dtype: 'float32', shape })),
    ...fed.map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
  ];
  const graph = {
    name: 'node',
    inputs,
    outputs: [{ name: 'y', dtype: 'float32', shape: outputs.shape }],
    nodes: [{ type, domain: 'com.microsoft', inputs: outputs.order, outputs: ['y'], attributes }],
    constants,
  };
  const session = await InferenceSession.create(encodeModel(graph), {
    intraOpNumThreads: threads,
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  });
  const size = (shape) => shape.reduce((a, b) => a * b, 1);
  const feeds = Object.fromEntries([
    ...Object.entries(outputs.inputs).map(([name, shape]) => [
      name,
      new Tensor(
        'float32',
        Float32Array.from({ length: size(shape) }, (_, i) => (i % 7) / 10),
        shape,
      ),
    ]),
    ...fed.map(([name, { dtype, shape, data }]) => [name, new Tensor(dtype, data, shape)]),
  ]);
  const times = [];
  for (let i = 0; i < 7; i++) await timed(times, () => session.run(feeds));
  await session.release();
  return { what: `${what}, weights as ${asInputs ? 'inputs' : 'constants'}`, ...quantiles(times) };
}

const bytesOf = (shape) => ({
  dtype: 'uint8',
  shape,
  data: Uint8Array.from(
    { length: shape.reduce((a, b) => a * b, 1) },
    (_, i) => Math.imul(i, 0x9e3779b1) >>> 24,
  ),
});
const scalesOf = (shape) => ({
  dtype: 'float32',
  shape,
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.001),
});

console.log(JSON.stringify(await sessions(4, false)));
console.log(JSON.stringify(await sessions(4, true)));
console.log(JSON.stringify(await sessions(8, false)));
for (const asInputs of [false, true]) {
  const matrix = {
    w: bytesOf([intermediateSize, hiddenSize / 32, 16]),
    s: scalesOf([intermediateSize, hiddenSize / 32]),
  };
  const product = { K: hiddenSize, N: intermediateSize, bits: 4, block_size: 32, accuracy_level: 4 };
  const shapes = { inputs: { x: [1, hiddenSize] }, shape: [1, intermediateSize], order: ['x', 'w', 's'] };
  console.log(
    JSON.stringify(
      await node('one matrix of int4, MatMulNBits', 'MatMulNBits', product, matrix, shapes, asInputs),
    ),
  );
}
for (const asInputs of [false, true]) {
  const numExperts = 16;
  const layer = {
    in: bytesOf([numExperts, 2 * intermediateSize, hiddenSize / 2]),
    inScales: scalesOf([numExperts, 2 * intermediateSize, hiddenSize / 32]),
    out: bytesOf([numExperts, hiddenSize, intermediateSize / 2]),
    outScales: scalesOf([numExperts, hiddenSize, intermediateSize / 32]),
  };
  const attributes = {
    k: 8,
    expert_weight_bits: 4,
    block_size: 32,
    activation_type: 'swiglu',
    swiglu_fusion: 1,
    activation_alpha: { float: 1 },
    activation_beta: { float: 0 },
  };
  const shapes = {
    inputs: { x: [1, hiddenSize], scores: [1, numExperts] },
    shape: [1, hiddenSize],
    order: ['x', 'scores', 'in', 'inScales', '', 'out', 'outScales'],
  };
  console.log(
    JSON.stringify(await node('8 of 16 experts of int4, QMoE', 'QMoE', attributes, layer, shapes, asInputs)),
  );
}
