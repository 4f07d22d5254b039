/**
 * Compresses the models of train-models.mjs with every method, and measures what is left: how far the experts moved, the
 * span-corruption loss, and the tasks. Routers and experts were frozen in fine-tuning, so the experts of the pre-trained
 * model stand in all of them: each is compressed once, through a folder of the compressed format.
 *
 *   npm run build && node docs/results/resmoe/compress-models.mjs --seed 1 --variant scratch
 *
 * Writes compressed-VARIANT-seedN.json beside this script; what is in it already is not measured again.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '../../../dist/checkpoints/index.js';
import { calibrate, compressFolder, createMethod, layerJobs, methodSchema } from '../../../dist/compress/index.js';
import { shapeOf } from '../../../dist/data/index.js';
import { exceeds } from '../../../dist/metrics/index.js';
import { openRecipeData, recipeOfRun, versions } from '../../../dist/recipes/index.js';
import { Evaluator, loadTextModel } from '../../../dist/train/index.js';

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    variant: { type: 'string', default: 'scratch' },
    models: { type: 'string', default: 'runs/resmoe' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
});
if (flags.help) {
  console.log(`usage: node docs/results/resmoe/compress-models.mjs [options]
  --seed N           of the models (default 1)
  --variant NAME     scratch or upcycled
  --models FOLDER    what train-models.mjs wrote (default runs/resmoe)
  --records FOLDER   where the record goes (default: beside this script)
  --threads N        threads of one operator (default 1)`);
  process.exit(0);
}
const id = `${flags.variant}-seed${flags.seed}`;
const folder = join(flags.models, id);
const cacheFolder = join(flags.models, 'cache');
const runtime = { threads: Number(flags.threads) };

/** Every method by the name that the table has. Those with a centre store it besides. */
const resmoe = (residual, more = {}) => ({ kind: 'resmoe', residual, ...more });
const methods = {
  'ResMoE, UP': resmoe('up'),
  'ResMoE, SVD': resmoe('svd'),
  'ResMoE, UP sep': resmoe('up', { scope: 'sep' }),
  'ResMoE, SVD sep': resmoe('svd', { scope: 'sep' }),
  'mean centre, UP': resmoe('up', { centre: { kind: 'mean' } }),
  'Git Re-Basin centre, UP': resmoe('up', { centre: { kind: 'gitRebasin' } }),
  'UP concat': { kind: 'direct', compressor: 'up' },
  'UP sep': { kind: 'direct', compressor: 'up', scope: 'sep' },
  'SVD concat': { kind: 'direct', compressor: 'svd' },
  'SVD sep': { kind: 'direct', compressor: 'svd', scope: 'sep' },
  'structured pruning': { kind: 'structuredPruning' },
  Wanda: { kind: 'wanda' },
  'expert dropping': { kind: 'expertDropping', by: 'frequency' },
  average: { kind: 'average' },
  'Git Re-Basin merge': { kind: 'gitRebasin' },
  'M-SMoE': { kind: 'mSmoe' },
  MEO: { kind: 'meo' },
  'MLP-Fusion': { kind: 'mlpFusion' },
};
const hasCentre = (name) => methods[name].kind === 'resmoe';

/** What is measured: [method, budget]. `perExpert` leaves the centre out of the account, `layer` counts it. */
function plan() {
  const entries = [];
  for (const name of Object.keys(methods)) {
    entries.push([name, { perExpert: 0.25 }]);
    // A quarter for each expert is 3/8 of the layer with a centre, 2/8 without: both fractions for both.
    entries.push([name, { layer: hasCentre(name) ? 0.25 : 0.375 }]);
  }
  for (const name of ['ResMoE, UP', 'ResMoE, SVD', 'UP concat', 'expert dropping', 'M-SMoE', 'average']) {
    for (const perExpert of [0.5, 0.125]) entries.push([name, { perExpert }]);
  }
  return entries;
}

/** Opens one trained model with its validation set. */
async function open(name) {
  const run = join(folder, name);
  const loaded = await loadTextModel(run);
  const recipe = await recipeOfRun(run);
  const data = await openRecipeData(recipe, { cacheFolder });
  const evaluator = await Evaluator.create(loaded.model, loaded.weights, shapeOf(data.validation()), runtime);
  const { maxBatches } = recipe.train.evaluation;
  const evaluate = () => evaluator.evaluate(data.validation(), loaded.tokenizer, maxBatches);
  return { name, ...loaded, data, evaluate };
}

const summary = ({ loss, perplexity, classification }) =>
  classification
    ? { loss, accuracy: classification.accuracy, matthews: classification.matthews, gain: classification.gain }
    : { loss, perplexity };

const file = join(flags.records, `compressed-${id}.json`);
const record = existsSync(file)
  ? JSON.parse(readFileSync(file, 'utf8'))
  : { variant: flags.variant, seed: Number(flags.seed), environment: versions(), measured: [] };
async function save() {
  await writeFile(`${file}.tmp`, `${JSON.stringify(record, null, 1)}\n`);
  await rename(`${file}.tmp`, file);
}

const pretrained = await open('pretrained');
const models = [pretrained];
for (const task of ['sst2', 'mrpc', 'cola']) models.push(await open(task));
const experts = [...pretrained.weights.keys()].filter((name) => name.includes('.feedForward.experts.'));
const originals = new Map(experts.map((name) => [name, pretrained.weights.get(name).slice()]));
for (const { name, weights } of models) {
  const moved = experts.filter((key) => weights.get(key).some((value, i) => value !== originals.get(key)[i]));
  if (moved.length > 0) throw new Error(`${folder}/${name}: the experts are not those of the pre-trained model: ${moved[0]}`);
}

/** Loss and scores of models with other experts. */
async function measureWith(weights, measured) {
  const found = {};
  for (const model of measured) {
    for (const key of experts) model.weights.get(key).set(weights.get(key));
    found[model.name] = summary(await model.evaluate());
  }
  return found;
}

if (!record.original) {
  record.original = await measureWith(originals, models);
  await save();
}
/** A task counts where the model beats the majority class, whose Matthews correlation is 0, by two standard errors. */
const counts = ({ name }) => {
  const { gain, matthews } = record.original[name];
  return gain === undefined || exceeds(name === 'cola' ? matthews : gain, 0);
};
const counting = models.filter(counts);
const source = join(folder, 'pretrained', 'model');
const checkpoint = await openCheckpoint(source);
for (const key of experts) pretrained.weights.get(key).set(originals.get(key));
const layers = layerJobs(checkpoint);
const names = layers.map(({ layout }) => layout.name);
// Thirty-two batches of the text that the model was pre-trained on.
const { train } = pretrained.data;
const calibration = await calibrate(
  pretrained.model,
  pretrained.weights,
  names,
  Object.assign(Array.from({ length: 32 }, () => structuredClone(train.next())), shapeOf(train)),
  { runtime },
);
const calibrated = layers.map(({ layout, open: openLayer }) => ({
  layout,
  open: async () => Object.assign(await openLayer(), { calibration: calibration.get(layout.name) }),
}));

for (const [name, budget] of plan()) {
  const key = `${name} ${JSON.stringify(budget)}`;
  if (record.measured.some((entry) => entry.key === key)) continue;
  const options = methodSchema.parse(methods[name]);
  const parent = await mkdtemp(join(tmpdir(), 'compressed-'));
  const began = performance.now();
  const entry = { key, method: name, budget };
  try {
    const out = join(parent, 'model');
    const { kind, ...settings } = options;
    const outcome = await compressFolder({
      folder: source,
      out,
      source: checkpoint.source,
      config: checkpoint.config,
      layers: calibrated,
      method: createMethod(options),
      about: { method: kind, options: { ...settings, ...budget } },
      budget,
      seed: Number(flags.seed),
    });
    entry.seconds = (performance.now() - began) / 1000;
    const sum = (of) => outcome.layers.reduce((total, layer) => total + of(layer), 0);
    entry.error = sum(({ report }) => report.error);
    entry.relativeError = entry.error / sum(({ report }) => report.energy);
    entry.fraction = sum(({ after }) => after.parameters) / sum(({ before }) => before.parameters);
    entry.bytes = { before: outcome.before.bytes, after: outcome.after.bytes, predicted: outcome.predictedBytes };
    entry.layers = outcome.layers.map(({ name: layer, report: { error, energy, redundancy, objective, truncationExcess } }) => ({
      layer,
      relativeError: error / energy,
      redundancy: redundancy?.ratio,
      iterations: objective?.length,
      truncationExcess,
    }));
    entry.models = await measureWith((await loadTextModel(out)).weights, counting);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    entry.refused = error.message;
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
  record.measured.push(entry);
  await save();
  const { refused, relativeError, models: found } = entry;
  console.log(`${id}: ${key}: ${refused ?? `ε ${relativeError.toFixed(4)}, loss ${found.pretrained.loss.toFixed(4)}`}`);
}

// Where the alternation starts: every expert once.
if (!record.starts) {
  record.starts = [];
  for (let initialExpert = 0; initialExpert < (await layers[0].open()).numExperts; initialExpert++) {
    const method = createMethod(methodSchema.parse(resmoe('up', { centre: { kind: 'barycenter', initialExpert } })));
    let [error, energy] = [0, 0];
    for (const { open: openLayer } of layers) {
      const { report } = await method.compress(await openLayer(), { budget: { perExpert: 0.25 } });
      error += report.error;
      energy += report.energy;
    }
    record.starts.push(error / energy);
  }
  await save();
}
await checkpoint.close();
for (const { data } of models) data.close();
console.log(`${id}: ${record.measured.length} measurements in ${file}`);
// The evaluators' sessions end with the process.
process.exit(0);
