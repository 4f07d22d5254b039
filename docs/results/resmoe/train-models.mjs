/**
 * Trains the models that compression is measured on: a small Switch encoder–decoder, pre-trained by span corruption on
 * WikiText-2 and the texts of three tasks, then fine-tuned on SST-2, MRPC and CoLA with routers and experts frozen.
 *
 *   npm run build && node docs/results/resmoe/train-models.mjs --seed 1 --variant scratch
 *
 * Needs data/wikitext-2/{train,valid}.txt and data/{sst2,mrpc,cola}/{train,dev}.tsv. A stage that is finished is not
 * repeated; one that was stopped goes on where it stopped, to the same bits.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { upcycle } from '../../../dist/checkpoints/index.js';
import { trainBytePair } from '../../../dist/data/index.js';
import { exceeds } from '../../../dist/metrics/index.js';
import { loadRecipe, trainRecipe, versions } from '../../../dist/recipes/index.js';
import { readMetrics } from '../../../dist/train/index.js';

const help = `usage: node docs/results/resmoe/train-models.mjs [options]
  --seed N           seed of weights, noise and order (default 1)
  --variant NAME     scratch (random start), or upcycled (dense for half of the steps, then every expert a copy)
  --data FOLDER      folder with wikitext-2, sst2, mrpc and cola (default data)
  --out FOLDER       where texts, tokenizer and models go (default runs/resmoe)
  --records FOLDER   where the record of the run goes (default: beside this script)
  --threads N        threads of one operator (default 1: run two at a time on two cores)
  --fraction X       do so much of every stage's steps (default 1; a smaller one is a trial of the pipeline)`;

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    variant: { type: 'string', default: 'scratch' },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/resmoe' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '1' },
    fraction: { type: 'string', default: '1' },
    help: { type: 'boolean', default: false },
  },
});
if (flags.help) {
  console.log(help);
  process.exit(0);
}
const { variant, data, out } = flags;
const [seed, threads, fraction] = [flags.seed, flags.threads, flags.fraction].map(Number);
if (!['scratch', 'upcycled'].includes(variant) || !Number.isSafeInteger(seed) || !(fraction > 0 && fraction <= 1)) {
  console.error(`train-models: --variant ${variant} --seed ${flags.seed} --fraction ${flags.fraction} is not understood\n${help}`);
  process.exit(1);
}
const id = `${variant}-seed${seed}`;
const folder = join(out, id);
const cacheFolder = join(out, 'cache');
const tasks = ['sst2', 'mrpc', 'cola'];

/** Puts a file or folder in its place as a whole; what another process has put there meanwhile is the same. */
async function once(path, make) {
  if (existsSync(path)) return;
  await mkdir(join(path, '..'), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  await make(temporary);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    if (!existsSync(path)) throw error;
  }
}

/** Sentences of a task's training file, without their labels. */
async function sentencesOf(task) {
  const columns = { sst2: ['sentence'], mrpc: ['#1 String', '#2 String'], cola: ['sentence'] }[task];
  const lines = (await readFile(join(data, task, 'train.tsv'), 'utf8')).trimEnd().split(/\r?\n/);
  const header = lines[0].split('\t');
  const places = columns.map((name) => header.indexOf(name));
  return lines.slice(1).flatMap((line) => places.map((at) => line.split('\t')[at].trim()));
}

const text = join(out, 'text');
await once(text, async (temporary) => {
  await mkdir(temporary);
  const parts = [await readFile(join(data, 'wikitext-2', 'train.txt'), 'utf8')];
  for (const task of tasks) parts.push(`${(await sentencesOf(task)).join('\n')}\n`);
  await writeFile(join(temporary, 'train.txt'), parts.join(''));
  await writeFile(join(temporary, 'valid.txt'), await readFile(join(data, 'wikitext-2', 'valid.txt')));
});

const tokenizer = join(out, 'tokenizer.json');
await once(tokenizer, async (temporary) => {
  const learnt = trainBytePair([await readFile(join(text, 'train.txt'), 'utf8')], { vocabSize: 4096, sentinels: 32 });
  await writeFile(temporary, JSON.stringify(learnt.toFile()));
});

/** One recipe trained into a run folder below this seed's, unless it is there. */
async function stage(name, recipeName, overrides, { from, share = 1 } = {}) {
  const run = join(folder, name);
  const steps = Math.max(2, Math.round(loadRecipe(recipeName).train.steps * share * fraction));
  const recipe = loadRecipe(recipeName, [
    `name=${id}-${name}`,
    `seed=${seed}`,
    `data.tokenizer=${JSON.stringify({ kind: 'file', path: tokenizer })}`,
    `train.steps=${steps}`,
    `train.schedule.warmupSteps=${Math.round(steps / 10)}`,
    `train.threads=${threads}`,
    ...overrides,
  ]);
  if (!existsSync(join(run, 'model', 'model.safetensors'))) {
    console.log(`${id}: ${name}, ${steps} steps`);
    const resume = existsSync(join(run, 'recipe.json'));
    const listener = {
      onEvaluation: (step, report) => {
        // Before the checkpoint of its step: whatever is resumed after the last one has its report.
        writeFileSync(join(run, 'evaluation.json'), JSON.stringify(report));
        const accuracy = report.classification ? ` accuracy ${report.classification.accuracy.value.toFixed(4)}` : '';
        console.log(`${id}: ${name} step ${step} loss ${report.loss.toFixed(4)}${accuracy}`);
      },
      onWarning: (message) => console.log(`${id}: ${name}: ${message}`),
    };
    const settings = { folder: run, resume, cacheFolder, listener, ...(resume || !from ? {} : { from }) };
    const result = await trainRecipe(recipe, settings);
    if (result.outcome === 'interrupted') {
      console.log(`${id}: stopped in ${name}; the same command goes on`);
      process.exit(130);
    }
  }
  const seconds = readMetrics(join(run, 'metrics.jsonl')).reduce((sum, { milliseconds = 0 }) => sum + milliseconds / 1000, 0);
  const report = JSON.parse(await readFile(join(run, 'evaluation.json'), 'utf8'));
  return { run, recipe, seconds, report };
}

const spans = [`data.path=${text}`];
const stages = {};
let start;
if (variant === 'upcycled') {
  stages.dense = await stage('dense', 'span-corruption-dense', spans, { share: 0.5 });
  start = join(folder, 'start');
  if (!existsSync(start)) {
    const { sparse } = loadRecipe('span-corruption-switch').model;
    await upcycle(join(stages.dense.run, 'model'), start, { sparse, seed });
  }
}
stages.pretrained = await stage('pretrained', 'span-corruption-switch', spans, start ? { from: start, share: 0.5 } : {});
for (const task of tasks) {
  const files = [`data.train=${join(data, task, 'train.tsv')}`, `data.validation=${join(data, task, 'dev.tsv')}`];
  stages[task] = await stage(task, task, files, { from: stages.pretrained.run });
}

/** What is kept of a stage: its recipe, loss, and for a task whether it counts. */
function recordOf(name, { recipe, seconds, report }) {
  const { loss, perplexity, tokens, classification } = report;
  // The majority class has a Matthews correlation of 0.
  const measured = classification
    ? { loss, ...classification, counts: exceeds(name === 'cola' ? classification.matthews : classification.gain, 0) }
    : { loss, perplexity, tokens };
  return { seconds: Math.round(seconds), ...measured, recipe };
}
const record = {
  variant,
  seed,
  fraction,
  environment: versions(),
  stages: Object.fromEntries(Object.entries(stages).map(([name, found]) => [name, recordOf(name, found)])),
};
await mkdir(flags.records, { recursive: true });
const file = join(flags.records, `models-${id}.json`);
await writeFile(`${file}.tmp`, `${JSON.stringify(record, null, 2)}\n`);
await rename(`${file}.tmp`, file);
console.log(`${id}: done in ${Object.values(record.stages).reduce((sum, { seconds }) => sum + seconds, 0)} s of training; ${file}`);
