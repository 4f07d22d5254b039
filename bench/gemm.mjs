/**
 * One process, one JSON line: the rate of the expert matrix products inside a training step, from ONNX Runtime's own
 * profile, beside the best matrix-product rate of the same runtime on this machine.
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

/** GFLOP/s of the products whose operands have a side of the experts' width, over the last runs. */
async function expertRate() {
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
    if (!/gemm/i.test(args?.op_name ?? '') || !name.endsWith('_kernel_time')) continue;
    const [a, b] = args.input_type_shape.map((entry) => Object.values(entry)[0]);
    const [y] = args.output_type_shape.map((entry) => Object.values(entry)[0]);
    if (![...a, ...b].includes(sizes.intermediateSize)) continue;
    const inner = Math.sqrt((a[0] * a[1] * b[0] * b[1]) / (y[0] * y[1]));
    if (!Number.isFinite(inner)) continue;
    perNode.set(name, [...(perNode.get(name) ?? []), { dur, flops: 2 * y[0] * y[1] * inner }]);
  }
  // The first runs touch fresh memory: the median of each node's runs is what a long training sees.
  let microseconds = 0;
  let flops = 0;
  for (const runs of perNode.values()) {
    const middle = [...runs].sort((p, q) => p.dur / p.flops - q.dur / q.flops)[runs.length >> 1];
    microseconds += middle.dur;
    flops += middle.flops;
  }
  return { rate: flops / microseconds / 1e3, milliseconds: microseconds / 1e3, products: perNode.size };
}

const experts = await expertRate();
const best = await bestRate();
process.stdout.write(
  `${JSON.stringify({ expertGflops: experts.rate, expertMs: experts.milliseconds, expertProducts: experts.products, bestGflops: best, share: experts.rate / best, threads })}\n`,
);
