/**
 * Which program takes one token (or `--rows` of them) through its experts fastest? Several graphs of the same eight SwiGLU experts of
 * 2048 × 1024, float32, with weights fed as inputs, over enough experts that no cache holds them; each graph's bytes a second
 * stand beside what two threads read at best. One JSON line for each.
 *
 *   node bench/expert-programs.mjs [--threads 2] [--rows 1] [--rounds 40] [--only NAME] [--gigabytes 3]
 */
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { encodeModel } from '../dist/runtime/index.js';
import { argument } from './config.mjs';
import { measureReadRate } from './read-rate.mjs';

const threads = Number(argument('threads', '2'));
const rounds = Number(argument('rounds', '40'));
const only = argument('only', '');
const rows = Number(argument('rows', '1'));
const gigabytes = Number(argument('gigabytes', '3'));
const [hiddenSize, intermediateSize, topK] = [2048, 1024, 8];
const floats = hiddenSize * intermediateSize;

/** Collects nodes of a graph of plain data. */
class Graph {
  inputs = [];
  nodes = [];
  constants = new Map();
  input(name, shape) {
    this.inputs.push({ name, dtype: 'float32', shape });
    return name;
  }
  emit(type, inputs, attributes = {}, domain = '') {
    const output = `${type}${this.nodes.length}`;
    this.nodes.push({ type, domain, inputs, outputs: [output], attributes });
    return output;
  }
  silu(x) {
    return this.emit('Mul', [x, this.emit('Sigmoid', [x])]);
  }
  finish(y, shape) {
    this.nodes.push({ type: 'Identity', domain: '', inputs: [y], outputs: ['y'], attributes: {} });
    const outputs = [{ name: 'y', dtype: 'float32', shape }];
    return { name: 'experts', inputs: this.inputs, outputs, nodes: this.nodes, constants: this.constants };
  }
}

/** `product(graph, x, weight, bigIn)` for the three weights of every expert; then the weighted sum. */
function perExpert({ shapes, product, column }) {
  const graph = new Graph();
  const x = graph.input('x', column ? [hiddenSize, rows] : [rows, hiddenSize]);
  const gates = Array.from({ length: topK }, (_, i) => graph.input(`gate${i}`, [1, 1]));
  const outputs = gates.map((gate, i) => {
    const [g, u, d] = ['g', 'u', 'd'].map((part) => graph.input(`${part}${i}`, shapes[part]));
    const inner = graph.emit('Mul', [graph.silu(product(graph, x, g)), product(graph, x, u)]);
    return graph.emit('Mul', [product(graph, inner, d), gate]);
  });
  return {
    graph: graph.finish(graph.emit('Sum', outputs), column ? [hiddenSize, rows] : [rows, hiddenSize]),
  };
}

/** Gate and up above each other in one weight `[2 · intermediateSize, hiddenSize]`. */
function joined() {
  const graph = new Graph();
  const x = graph.input('x', [hiddenSize, rows]);
  graph.constants.set('sizes', { dtype: 'int64', shape: [2], data: [intermediateSize, intermediateSize] });
  const outputs = Array.from({ length: topK }, (_, i) => {
    const gate = graph.input(`gate${i}`, [1, 1]);
    const both = graph.emit('MatMul', [graph.input(`j${i}`, [2 * intermediateSize, hiddenSize]), x]);
    const [g, u] = [`g${i}`, `u${i}`];
    graph.nodes.push({
      type: 'Split',
      domain: '',
      inputs: [both, 'sizes'],
      outputs: [g, u],
      attributes: { axis: 0 },
    });
    const inner = graph.emit('Mul', [graph.silu(g), u]);
    return graph.emit('Mul', [graph.emit('MatMul', [graph.input(`d${i}`, outIn.d), inner]), gate]);
  });
  return { graph: graph.finish(graph.emit('Sum', outputs), [hiddenSize, rows]) };
}

const inOut = {
  g: [hiddenSize, intermediateSize],
  u: [hiddenSize, intermediateSize],
  d: [intermediateSize, hiddenSize],
};
const outIn = {
  g: [intermediateSize, hiddenSize],
  u: [intermediateSize, hiddenSize],
  d: [hiddenSize, intermediateSize],
};

const variants = {
  'gemm, weights [in, out]': () => perExpert({ shapes: inOut, product: (g, x, w) => g.emit('Gemm', [x, w]) }),
  'matmul, weights [in, out]': () =>
    perExpert({ shapes: inOut, product: (g, x, w) => g.emit('MatMul', [x, w]) }),
  'gemm, weights [out, in] transposed': () =>
    perExpert({ shapes: outIn, product: (g, x, w) => g.emit('Gemm', [x, w], { transB: 1 }) }),
  'fused matmul, weights [out, in] transposed': () =>
    perExpert({
      shapes: outIn,
      product: (g, x, w) => g.emit('FusedMatMul', [x, w], { transB: 1 }, 'com.microsoft'),
    }),
  'weights [out, in] times a column': () =>
    perExpert({ shapes: outIn, column: true, product: (g, x, w) => g.emit('MatMul', [w, x]) }),
  'weights [in, out] read transposed, times a column': () =>
    perExpert({
      shapes: inOut,
      column: true,
      product: (g, x, w) => g.emit('FusedMatMul', [w, x], { transA: 1 }, 'com.microsoft'),
    }),
  'gemm, weights [in, out] read transposed, times a column': () =>
    perExpert({
      shapes: inOut,
      column: true,
      product: (g, x, w) => g.emit('Gemm', [w, x], { transA: 1 }),
    }),
  'gemm, weights [in, out], two nodes at a time': () => ({
    ...perExpert({ shapes: inOut, product: (g, x, w) => g.emit('Gemm', [x, w]) }),
    options: { executionMode: 'parallel', interOpNumThreads: 2, intraOpNumThreads: 1 },
  }),
  'weights [out, in] times a column, two nodes at a time': () => ({
    ...variants['weights [out, in] times a column'](),
    options: { executionMode: 'parallel', interOpNumThreads: 2, intraOpNumThreads: 1 },
  }),
  'weights [out, in] times a column, gate and up in one': () => joined(),
  'weights [out, in] times a column, gate and up in one, two nodes at a time': () => ({
    ...joined(),
    options: { executionMode: 'parallel', interOpNumThreads: 2, intraOpNumThreads: 1 },
  }),
};

const expertBytes = 3 * floats * 4;
const numExperts = Math.max(topK, Math.floor((gigabytes * 1e9) / expertBytes / topK) * topK);
const experts = Array.from({ length: numExperts }, (_, e) => {
  const all = new Float32Array(3 * floats).fill(0.001 * (1 + (e % 7)));
  const parts = { j: all.subarray(0, 2 * floats), d: all.subarray(2 * floats) };
  return { ...parts, g: all.subarray(0, floats), u: all.subarray(floats, 2 * floats) };
});

/** Opens a variant; running it takes the next eight experts and keeps its milliseconds. */
async function open([name, make]) {
  const { graph, options = {} } = make();
  const session = await InferenceSession.create(encodeModel(graph), {
    intraOpNumThreads: threads,
    graphOptimizationLevel: 'all',
    logSeverityLevel: 3,
    extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
    ...options,
  });
  const shapeOf = new Map(graph.inputs.map(({ name: input, shape }) => [input, shape]));
  const x = new Float32Array(hiddenSize * rows).fill(0.01);
  const feeds = { x: new Tensor('float32', x, shapeOf.get('x')) };
  for (let i = 0; i < topK; i++) feeds[`gate${i}`] = new Tensor('float32', [1 / topK], [1, 1]);
  const times = [];
  const run = async (first) => {
    for (let i = 0; i < topK; i++) {
      for (const [part, data] of Object.entries(experts[first + i])) {
        const shape = shapeOf.get(`${part}${i}`);
        if (shape) feeds[`${part}${i}`] = new Tensor('float32', data, shape);
      }
    }
    const began = performance.now();
    await session.run(feeds);
    times.push(performance.now() - began);
  };
  return { name, run, times, release: () => session.release() };
}

let rate = await measureReadRate({ threads });
const opened = [];
for (const variant of Object.entries(variants))
  if (variant[0].includes(only)) opened.push(await open(variant));
let first = 0;
for (let round = 0; round < rounds; round++) {
  for (const { run } of opened) {
    await run(first);
    first = (first + topK) % numExperts;
  }
}
rate = Math.max(rate, await measureReadRate({ threads }));
console.log(JSON.stringify({ what: 'plain reading', gigabytesPerSecond: rate / 1e9, threads }));
for (const { name, times, release } of opened) {
  await release();
  times.sort((a, b) => a - b);
  const [minMs, medianMs] = [times[0], times[times.length >> 1]];
  const gigabytesPerSecond = (topK * expertBytes) / medianMs / 1e6;
  const best = (topK * expertBytes) / minMs / 1e6;
  console.log(
    JSON.stringify({ what: name, minMs, medianMs, gigabytesPerSecond, best, bestShare: (1e9 * best) / rate }),
  );
}
