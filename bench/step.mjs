/** One process, one JSON line: whole training steps, or the sparse layer alone, forwards and backwards. */
import { gradients, input } from '../dist/graph/index.js';
import { LanguageModel } from '../dist/models/index.js';
import { createSparseLayer, RouterPool } from '../dist/moe/index.js';
import { nameParameters, ParameterArena, trainingContext } from '../dist/nn/index.js';
import { compile } from '../dist/runtime/index.js';
import { Trainer, trainSchema } from '../dist/train/index.js';
import { argument, modelOptions, quantiles, randomBatches, shape, sizes, tokens } from './config.mjs';

const what = argument('what', 'step');
const threads = Number(argument('threads', '2'));
const warmup = Number(argument('warmup', '5'));
const repeats = Number(argument('repeats', '20'));

async function measure(run) {
  const times = [];
  for (let i = 0; i < warmup + repeats; i++) {
    const began = performance.now();
    await run(i);
    if (i >= warmup) times.push(performance.now() - began);
  }
  return quantiles(times);
}

async function wholeStep() {
  const options = trainSchema.parse({ batchSize: shape.batchSize, steps: warmup + repeats, threads });
  const model = new LanguageModel(modelOptions);
  const trainer = await Trainer.create({
    model,
    data: { train: randomBatches() },
    options,
    seed: 1,
    padded: false,
  });
  const parts = { data: [], session: [], optimizer: [] };
  const times = await measure(async (i) => {
    const { milliseconds } = await trainer.update();
    if (i >= warmup) for (const [part, list] of Object.entries(parts)) list.push(milliseconds[part]);
  });
  const split = Object.fromEntries(
    Object.entries(parts).map(([part, list]) => [`${part}Ms`, quantiles(list).medianMs]),
  );
  return { ...times, ...split, tokensPerSecond: (1000 * tokens) / times.medianMs };
}

async function layerAlone() {
  const rule = { kind: 'fanIn', scale: 1, standardDeviation: 0.02 };
  const layer = createSparseLayer(modelOptions.sparse, {
    ...modelOptions,
    ...sizes,
    initialization: rule,
    outputInitialization: rule,
    layerIndex: 0,
    sparseIndex: 0,
    numStackSparseLayers: sizes.numLayers,
    numSparseLayers: sizes.numLayers,
    routers: new RouterPool(),
  });
  const parameters = nameParameters(layer);
  const values = ParameterArena.allocate(parameters).initialize(parameters, 1);
  const slopes = values.like();
  const hidden = input('hidden', 'float32', [tokens, sizes.hiddenSize]);
  const seed = input('seed', 'float32', [tokens, sizes.hiddenSize]);
  const context = {
    ...trainingContext(),
    layerIndex: 0,
    site: 'layer',
    batchSize: shape.batchSize,
    causal: true,
  };
  const { output } = layer.forward(hidden, context);
  const names = [...parameters.keys()];
  const sources = [hidden, ...names.map((name) => parameters.get(name).tensor)];
  const [forHidden, ...derived] = gradients([output], sources, { seeds: [seed] });
  const outputs = { output, forHidden, ...Object.fromEntries(names.map((name, i) => [name, derived[i]])) };
  const program = await compile(outputs, { threads });
  program.bind(Object.fromEntries(values.views));
  for (const [name, view] of slopes.views) program.bindOutput(name, view);
  const noise = () =>
    Float32Array.from({ length: tokens * sizes.hiddenSize }, (_, i) => Math.sin(i * 12.9898) * 2);
  program.bind({ hidden: noise(), seed: noise() });
  const times = await measure(() => program.run());
  return { ...times, tokensPerSecond: (1000 * tokens) / times.medianMs };
}

const result = what === 'layer' ? await layerAlone() : await wholeStep();
process.stdout.write(`${JSON.stringify({ what, threads, ...result })}\n`);
