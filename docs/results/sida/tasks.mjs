/**
 * The three tasks and the classifiers that are trained on them: what every script of this folder agrees on.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { trainBytePair } from '../../../dist/data/index.js';
import { parseRecipe } from '../../../dist/recipes/index.js';

/**
 * Texts are read up to `contextLength` tokens and cut before their end token; in training already at `trainingLength`,
 * which the models' relative positions allow: of SST-2's training phrases 91 % are shorter. Of MultiRC's answers every sixth
 * group of 16 is measured.
 */
export const tasks = {
  sst2: { source: '{sentence}', label: 'label', trainingLength: 32, contextLength: 64, batchSize: 64, steps: 600, learningRate: 0.002 },
  mrpc: {
    source: 'first: {#1 String} second: {#2 String}',
    label: 'Quality',
    trainingLength: 96,
    contextLength: 128,
    batchSize: 24,
    steps: 240,
    learningRate: 0.001,
  },
  multirc: {
    source: 'question: {question} answer: {answer} paragraph: {paragraph}',
    label: 'label',
    trainingLength: 256,
    contextLength: 384,
    batchSize: 8,
    steps: 200,
    validationStride: 6,
    learningRate: 0.001,
  },
};
export const taskNames = Object.keys(tasks);
export const expertCounts = [8, 64, 128];

/** The part of a validation sequence that is measured. */
export function measured(sequence, task) {
  const stride = tasks[task].validationStride ?? 1;
  const { batchSize, contextLength } = sequence;
  return {
    batchSize,
    contextLength,
    *[Symbol.iterator]() {
      let index = 0;
      for (const batch of sequence) if (index++ % stride === 0) yield batch;
    },
  };
}

/** Puts a file or folder in its place as a whole. */
export async function once(path, make) {
  if (existsSync(path)) return;
  await mkdir(join(path, '..'), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  await make(temporary);
  await rename(temporary, path).catch(async (error) => {
    await rm(temporary, { recursive: true, force: true });
    if (!existsSync(path)) throw error;
  });
}

/** MultiRC as a table: one line an answer. */
async function multircTable(path) {
  const clean = (text) => text.replace(/\s+/g, ' ').trim();
  const lines = ['question\tanswer\tparagraph\tlabel'];
  for (const line of (await readFile(path, 'utf8')).trimEnd().split('\n')) {
    const { text, questions } = JSON.parse(line).passage;
    for (const { question, answers } of questions)
      for (const answer of answers)
        lines.push([question, answer.text, text].map(clean).concat(String(answer.label)).join('\t'));
  }
  return `${lines.join('\n')}\n`;
}

/** The training and validation tables of a task, and a tokenizer of 4,096 byte pairs learnt from its training texts. */
export async function filesOf(task, { data = 'data', out = 'runs/sida' } = {}) {
  const files = { tokenizer: join(out, `${task}-tokenizer.json`) };
  for (const [split, name] of [['train', 'train'], ['validation', 'dev']]) {
    files[split] = join(data, task, `${name}.tsv`);
    if (task !== 'multirc') continue;
    files[split] = join(out, `multirc-${name}.tsv`);
    await once(files[split], async (path) => writeFile(path, await multircTable(join(data, task, `${name}.jsonl`))));
  }
  await once(files.tokenizer, async (path) => {
    const [header, ...rows] = (await readFile(files.train, 'utf8')).trimEnd().split(/\r?\n/).map((row) => row.split('\t'));
    const columns = [...tasks[task].source.matchAll(/\{(.*?)\}/g)].map(([, name]) => header.indexOf(name));
    const texts = [...new Set(rows.flatMap((row) => columns.map((at) => row[at].trim())))];
    const learnt = trainBytePair([texts.join('\n')], { vocabSize: 4096, sentinels: 1 });
    await writeFile(path, JSON.stringify(learnt.toFile()));
  });
  return files;
}

/** The recipe of one teacher: a Switch encoder of six blocks of width 128, every second one sparse. */
export function recipeOf(task, numExperts, files, { seed = 1, steps, learningRate, threads, dropout = 0.1 }) {
  const { source, label, trainingLength, batchSize } = tasks[task];
  const recipe = {
    name: `${task}-${numExperts}`,
    seed,
    model: {
      kind: 'classifier',
      head: 'encoderMean',
      numLabels: 2,
      hiddenSize: 128,
      numEncoderLayers: 6,
      numHeads: 4,
      intermediateSize: 256,
      activation: 'relu',
      contextLength: trainingLength,
      positions: 'relative',
      norm: 'rms',
      dropout,
      headDropout: dropout,
      initialization: { kind: 'fanIn', scale: 0.3, embedding: 0.3 },
      sparse: {
        every: 2,
        numExperts,
        topK: 1,
        router: { kind: 'softmax', balanceCoefficient: 0.01, standardDeviation: 0.25 },
        dispatch: { kind: 'capacity', capacityFactor: 1.25, evalCapacityFactor: 2 },
      },
    },
    data: {
      kind: 'task',
      train: files.train,
      validation: files.validation,
      source,
      label,
      tokenizer: { kind: 'file', path: files.tokenizer },
    },
    train: {
      batchSize,
      steps,
      optimizer: { kind: 'adamw', beta1: 0.9, beta2: 0.98, weightDecay: 0.01 },
      schedule: { kind: 'linear', learningRate, warmupSteps: Math.ceil(steps / 10), finalFraction: 0 },
      evaluation: { every: Math.ceil(steps / 2), maxBatches: 60 },
      checkpoint: { every: Math.ceil(steps / 4), keep: 1 },
      ...(threads ? { threads } : {}),
    },
  };
  return parseRecipe(recipe, `${task}-${numExperts}`);
}
