/**
 * Records the routing of the teachers and trains predictors of it.
 *
 *   node docs/results/sida/train-predictors.mjs --task sst2 --experts 128 --variant sida
 *
 * Needs the teachers of train-teachers.mjs. What is finished is not repeated; what was stopped goes on.
 */
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { recordRouting, RoutingRecording, trainPredictor, predictorTrainSchema } from '../../../dist/serve/index.js';
import { expertCounts, once, taskNames } from './tasks.mjs';
import { openTeacher } from './teacher.mjs';
import { predictorId, predictorTraining, recordingId, stepsOf, variants } from './variants.mjs';

const { values: flags } = parseArgs({
  options: {
    task: { type: 'string', multiple: true, default: taskNames },
    experts: { type: 'string', multiple: true, default: expertCounts.map(String) },
    variant: { type: 'string', multiple: true, default: ['sida'] },
    seed: { type: 'string', multiple: true, default: ['1'] },
    /** Other numbers of updates than the task's, as ablations have. */
    steps: { type: 'string' },
    data: { type: 'string', default: 'data' },
    out: { type: 'string', default: 'runs/sida' },
    records: { type: 'string', default: new URL('.', import.meta.url).pathname },
    threads: { type: 'string', default: '2' },
  },
});
const { data, out } = flags;
const threads = Number(flags.threads);
const fewer = flags.steps && Number(flags.steps);

/** So many examples of the training set, in the order of its first epoch. */
function inOrder({ train }, examples) {
  const { contextLength, batchSize } = train;
  return {
    contextLength,
    *[Symbol.iterator]() {
      for (let done = 0; done < examples; done += batchSize) yield train.next();
    },
  };
}

for (const experts of flags.experts.map(Number)) {
  for (const task of flags.task) {
    for (const variant of flags.variant) {
      const { padding = false, network = {} } = variants[variant];
      const { examples, maxTokens, train } = predictorTraining[task];
      const teacher = await openTeacher(task, experts, { data, out });
      const source = `${task}, the first ${examples} examples of epoch 0`;
      const folder = join(out, 'recordings', recordingId(task, experts, padding));
      const { model, weights } = teacher;
      const started = Date.now();
      const runtime = { threads };
      const limit = padding ? Math.round(maxTokens / 4) : maxTokens;
      await recordRouting({ folder, model, weights, batches: inOrder(await teacher.open(), examples), source, maxTokens: limit, padding, runtime, batchSize: teacher.shape.batchSize });
      const recordSeconds = (Date.now() - started) / 1000;
      const recording = await RoutingRecording.open(folder);
      for (const seed of flags.seed.map(Number)) {
        const id = predictorId(task, experts, variant, seed, fewer);
        const place = join(out, 'predictors', id);
        const record = join(flags.records, `predictor-${id}.json`);
        if (existsSync(record) && existsSync(place)) continue;
        const options = predictorTrainSchema.parse({ ...train, ...variants[variant].train, steps: fewer ?? stepsOf(task, experts), seed, threads });
        const log = join(out, 'predictors', `${id}.log.json`);
        const steps = existsSync(log) ? JSON.parse(await readFile(log, 'utf8')) : [];
        let [loss, hits, count, since] = [0, 0, 0, Date.now()];
        await trainPredictor({
          folder: place,
          recording,
          embeddings: weights.get('embedding.weight'),
          network,
          train: options,
          onStep: (step) => {
            loss += step.loss;
            hits += step.hitRate;
            if (++count < 50 && step.step < options.steps) return;
            const seconds = (Date.now() - since) / 1000;
            steps.push({ step: step.step, loss: loss / count, hitRate: hits / count, seconds });
            console.log(`${id}: step ${step.step} loss ${(loss / count).toFixed(5)} hits ${(hits / count).toFixed(4)} ${seconds.toFixed(0)} s`);
            [loss, hits, count, since] = [0, 0, 0, Date.now()];
          },
        });
        const found = {
          task,
          experts,
          variant,
          seed,
          tokens: recording.tokens,
          sequences: recording.sequences,
          recordSeconds: Math.round(recordSeconds),
          seconds: Math.round(steps.reduce((sum, { seconds }) => sum + seconds, 0)),
          train: options,
          network,
          steps,
        };
        await rm(record, { force: true });
        await once(record, (path) => writeFile(path, `${JSON.stringify(found, null, 1)}\n`));
      }
    }
  }
}
