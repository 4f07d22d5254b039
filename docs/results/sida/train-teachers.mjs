/**
 * Trains the nine classifiers whose routing is predicted: SST-2, MRPC and MultiRC, each with 8, 64 and 128 experts.
 *
 *   npm run build && node docs/results/sida/train-teachers.mjs
 *
 * Needs data/{sst2,mrpc}/{train,dev}.tsv and data/multirc/{train,dev}.jsonl. What is finished is not repeated; what was
 * stopped goes on where it stopped, to the same bits. A finished teacher is a model folder in OUT/teachers.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openClassification } from '../../../dist/data/index.js';
import { trainRecipe, versions } from '../../../dist/recipes/index.js';
import { Evaluator, loadModel, readMetrics } from '../../../dist/train/index.js';
import { expertCounts, filesOf, measured, once, recipeOf, taskNames, tasks } from './tasks.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: expertCounts.map(String) },
    seed: { type: 'string', default: '1' },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '2' },
  },
});
const { data, out } = flags;
const seed = Number(flags.seed);
const threads = Number(flags.threads);

/** The weights of a run with a configuration for serving: longer texts, and every choice served. */
async function saveServed(run, folder, contextLength) {
  await once(folder, async (temporary) => {
    await mkdir(temporary, { recursive: true });
    for (const name of ['model.safetensors', 'tokenizer.json'])
      await copyFile(join(run, 'model', name), join(temporary, name));
    const config = JSON.parse(await readFile(join(run, 'model', 'config.json'), 'utf8'));
    config.contextLength = contextLength;
    config.sparse.dispatch = { kind: 'dropless' };
    await writeFile(join(temporary, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  });
}

for (const experts of flags.experts.map(Number)) {
  for (const task of flags.task) {
    const id = `${task}-${experts}${seed === 1 ? '' : `-seed${seed}`}`;
    const record = join(flags.records, `teacher-${id}.json`);
    const folder = join(out, 'teachers', id);
    if (existsSync(record) && existsSync(folder)) continue;
    const files = await filesOf(task, { data, out });
    const { contextLength, steps, learningRate } = tasks[task];
    const recipe = recipeOf(task, experts, files, { seed, steps, learningRate, threads });
    const run = join(out, 'runs', id);
    const cacheFolder = join(out, 'cache');
    if (!existsSync(join(run, 'model', 'model.safetensors'))) {
      const listener = {
        onEvaluation: (step, { loss, classification }) =>
          console.log(`${id}: step ${step} loss ${loss.toFixed(4)} accuracy ${classification.accuracy.value.toFixed(4)}`),
        onWarning: (message) => console.log(`${id}: ${message}`),
      };
      const resume = existsSync(join(run, 'recipe.json'));
      const { outcome } = await trainRecipe(recipe, { folder: run, resume, cacheFolder, listener });
      if (outcome === 'interrupted') process.exit(130);
    }
    await saveServed(run, folder, contextLength);
    const seconds = readMetrics(join(run, 'metrics.jsonl')).reduce((sum, { milliseconds = 0 }) => sum + milliseconds / 1000, 0);
    const shape = { batchSize: 16, contextLength };
    const { model, weights } = await loadModel(folder);
    const opened = await openClassification(recipe.data, { ...shape, seed, cacheFolder });
    const evaluator = await Evaluator.create(model, weights, shape, { threads });
    const { loss, classification, loads } = await evaluator.evaluate(measured(opened.validation(), task), opened.tokenizer);
    await evaluator.release();
    const total = loads.map((load) => load.reduce((a, b) => a + b, 0));
    const found = {
      task,
      experts,
      seed,
      seconds: Math.round(seconds),
      contextLength,
      loss,
      ...classification,
      tokens: total[0],
      usedExperts: loads.map((load) => load.filter((count) => count > 0).length),
      largestShare: loads.map((load, layer) => Math.max(...load) / total[layer]),
      environment: versions(),
      recipe: { ...recipe, data: { ...recipe.data, train: undefined, validation: undefined, tokenizer: { kind: 'bpe', vocabSize: 4096, sentinels: 1 } } },
    };
    await once(record, (path) => writeFile(path, `${JSON.stringify(found, null, 2)}\n`));
    console.log(`${id}: ${found.seconds} s of training, accuracy ${classification.accuracy.value.toFixed(4)}, F1 ${classification.f1.value.toFixed(4)}; ${record}`);
  }
}
