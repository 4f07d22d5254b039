/**
 * One process, one JSON line: what a training step cannot do without. The matrix products inside it and the rate of
 * those of the experts, from ONNX Runtime's own profile, beside the best matrix-product rate of the same runtime on
 * this machine; and the time that AdamW's bytes need at the speed of a copy.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gradients, input, matmul } from '../dist/graph/index.js';
import { LanguageModel } from '../dist/models/index.js';
import { nameParameters, ParameterArena, trainingContext } from '../dist/nn/index.js';
import { compile } from '../dist/runtime/index.js';
import { traceObjective } from '../dist/train/index.js';
import { argument, modelOptions, randomBatches, shape, sizes } from './config.mjs';

const threads = Number(argument('threads', '2'));
const RUNS = 8;

async function bestRate() {
  let best = 0;
  for (const [m, k, n] of [
    [2048, 2048, 2048],
    [4096, 256, 1024],
    [1024, 1024, 1024],
  ]) {
    const a = input('a', 'float32', [m, k]);
    const b = input('b', 'float32', [n, k]);
    const program = await compile({ y: matmul(a, b, { transposeB: true }) }, { threads });
    program.bind({ a: new Float32Array(m * k).fill(0.5), b: new Float32Array(n * k).fill(0.5) });
    for (let i = 0; i < 20; i++) {
      const began = performance.now();
      await program.run();
      best = Math.max(best, (2 * m * k * n) / (performance.now() - began) / 1e6);
    }
    await program.release();
  }
  return best;
}

/** Time, FLOPs and number of a step's matrix products: all of them, and those with a side of the experts' width. */
async function productsOfStep() {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-bench-'));
  const model = new LanguageModel(modelOptions);
  const parameters = nameParameters(model);
  const values = ParameterArena.allocate(parameters).initialize(parameters, 1);
  const slopes = values.like();
  const { loss } = traceObjective(model, shape, trainingContext(), false);
  const names = [...parameters.keys()];
  const derived = gradients(
    loss,
    names.map((name) => parameters.get(name).tensor),
  );
  const outputs = { loss, ...Object.fromEntries(names.map((name, i) => [`gradient.${name}`, derived[i]])) };
  const program = await compile(outputs, { threads, profile: join(folder, 'profile') });
  program.bindKnown(values.views);
  for (const [name, view] of slopes.views) program.bindOutput(`gradient.${name}`, view);
  const batches = randomBatches();
  for (let i = 0; i < RUNS; i++) {
    program.bindKnown(Object.entries(batches.next()));
    await program.run();
  }
  await program.release();
  const events = readdirSync(folder).flatMap((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')));
  rmSync(folder, { recursive: true });
  const perNode = new Map();
  for (const { name, dur, args } of events) {
    if (!/gemm|matmul/i.test(args?.op_name ?? '') || !name.endsWith('_kernel_time')) continue;
    const [a, b] = args.input_type_shape.map((entry) => Object.values(entry)[0]);
    const [y] = args.output_type_shape.map((entry) => Object.values(entry)[0]);
    const elements = (dims) => dims.reduce((product, size) => product * size, 1);
    const batch = elements(y.slice(0, -2));
    // Whatever is transposed: rows · inner · inner · columns = |a| · |b| per matrix, and |y| = rows · columns.
    const inner = Math.sqrt(
      (elements(a) * elements(b)) / (elements(y) * batch * (b.length > 2 ? 1 : 1 / batch)),
    );
    if (!Number.isFinite(inner)) continue;
    const isExpert = [...a, ...b].includes(sizes.intermediateSize);
    const node = perNode.get(name) ?? { isExpert, runs: [] };
    node.runs.push({ dur, flops: 2 * elements(y) * inner });
    perNode.set(name, node);
  }
  // The first runs touch fresh memory: the median of each node's runs is what a long training sees.
  const total = (nodes) => {
    let [milliseconds, flops] = [0, 0];
    for (const { runs } of nodes) {
      const middle = [...runs].sort((p, q) => p.dur / p.flops - q.dur / q.flops)[runs.length >> 1];
      milliseconds += middle.dur / 1e3;
      flops += middle.flops;
    }
    return { milliseconds, flops, products: nodes.length };
  };
  const nodes = [...perNode.values()];
  const size = [...parameters.values()].reduce((sum, parameter) => sum + parameter.size, 0);
  return { all: total(nodes), experts: total(nodes.filter(({ isExpert }) => isExpert)), parameters: size };
}

/** Bytes a millisecond of a plain copy, read and written bytes together. */
function copyRate() {
  const [from, to] = [new Float32Array(1 << 26).fill(1), new Float32Array(1 << 26)];
  let best = 0;
  for (let i = 0; i < 5; i++) {
    const began = performance.now();
    to.set(from);
    best = Math.max(best, (2 * from.byteLength) / (performance.now() - began));
  }
  return best;
}

const { all, experts, parameters } = await productsOfStep();
const best = await bestRate();
const rate = experts.flops / experts.milliseconds / 1e6;
// AdamW reads weight, gradient and two moments, and writes all but the gradient.
const optimizerMs = (28 * parameters) / copyRate();
process.stdout.write(
  `${JSON.stringify({
    expertGflops: rate,
    expertMs: experts.milliseconds,
    expertProducts: experts.products,
    bestGflops: best,
    share: rate / best,
    productMs: all.milliseconds,
    productGflop: all.flops / 1e9,
    floorMs: all.flops / best / 1e6 + optimizerMs,
    optimizerFloorMs: optimizerMs,
    threads,
  })}\n`,
);
