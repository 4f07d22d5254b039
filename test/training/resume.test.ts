/**
 * A run that was stopped and goes on in another process is, bit for bit, the run that never stopped.
 * @module
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readMetrics } from '../../src/train/metrics-log.js';
import { Child } from '../crash/child.js';
import { noisySwitch, temporaryFolder, tinyText } from '../support/tiny-training.js';

const [STOP, END] = [12, 20];
const [batchSize, contextLength] = [4, 16];
/** Text of so many windows. */
const windows = (count: number): Buffer => Buffer.from(tinyText(count * contextLength + 1));

const switchModel = {
  hiddenSize: 16,
  numLayers: 2,
  numHeads: 2,
  intermediateSize: 32,
  contextLength,
  ...noisySwitch,
};
const capacityModel = {
  ...switchModel,
  positions: 'learned',
  attentionDropout: 0.1,
  sparse: { ...noisySwitch.sparse, topK: 2, dispatch: { kind: 'capacity', capacityFactor: 1 } },
};
const train = {
  batchSize,
  steps: END,
  schedule: { kind: 'cosine', learningRate: 0.01, warmupSteps: 3 },
  evaluation: { every: 5 },
  checkpoint: { every: 7, keep: 5 },
};

const pairModel = {
  kind: 'encoderDecoder',
  hiddenSize: 16,
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  numHeads: 2,
  intermediateSize: 32,
  contextLength,
  targetLength: 8,
  finalDropout: true,
  ...noisySwitch,
};
const { targetLength: _, ...stacks } = pairModel;
const classifierModel = { ...stacks, kind: 'classifier', head: 'decoderEos', numLabels: 2, headDropout: 0.2 };
const byteText = { kind: 'text', order: 'shuffled', tokenizer: { kind: 'byte' } };
const spans = { ...byteText, tokenizer: { kind: 'bpe', vocabSize: 267, sentinels: 8 } };
const task = {
  kind: 'task',
  source: 'say {text}',
  tokenizer: { kind: 'byte', specialTokens: true },
};
const sparseFreeze = ['*.feedForward.router.*', '*.feedForward.experts.*'];

const cases: readonly {
  readonly name: string;
  readonly model: object;
  readonly train: object;
  readonly text?: Buffer;
  readonly data?: object;
}[] = [
  { name: 'in the middle of an epoch', text: windows(31), model: switchModel, train },
  { name: 'at the end of an epoch', text: windows(STOP * batchSize), model: switchModel, train },
  { name: 'with accumulation', text: windows(31), model: switchModel, train: { ...train, accumulation: 2 } },
  { name: 'on one thread', text: windows(31), model: switchModel, train: { ...train, threads: 1 } },
  {
    name: 'with capacity, two choices and attention dropout',
    text: windows(31),
    model: capacityModel,
    train,
  },
  {
    name: 'with momentum and frozen parameters',
    text: windows(31),
    model: switchModel,
    train: { ...train, optimizer: { kind: 'sgd' }, freeze: ['embedding.*'] },
  },
  { name: 'span corruption', text: windows(31), model: pairModel, train, data: spans },
  {
    name: 'a task that is said, with accumulation',
    model: pairModel,
    train: { ...train, accumulation: 2 },
    data: { ...task, target: '{class}' },
  },
  {
    name: 'a classifier with frozen routers and experts',
    model: classifierModel,
    train: { ...train, freeze: sparseFreeze },
    data: { ...task, label: 'class' },
  },
];

interface Told {
  readonly name: string;
  readonly from: number;
  readonly step: number;
  readonly outcome: string;
  readonly passedOver: readonly string[];
  readonly nextBatches: string;
}

let folder: string;
const straight: Told[] = [];
const resumed: Told[] = [];
const stopped: Told[] = [];

async function train_(setups: string, how: 'start' | 'resume', last: number, into: Told[]): Promise<void> {
  const script = new URL('fixtures/run.mjs', import.meta.url).pathname;
  const child = new Child(process.execPath, [script, setups, how, String(last)]);
  expect(await child.ended).toBe(0);
  into.push(...(child.told as unknown as Told[]));
}

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'validation.txt'), tinyText(90, 2));
  const examples = (from: number, to: number): string =>
    Array.from(
      { length: to - from },
      (_, i) => `${(from + i) % 2}\t${'ab'[(from + i) % 2]!.repeat(1 + (i % 5))}\n`,
    ).join('');
  await writeFile(join(folder, 'train.tsv'), `class\ttext\n${examples(0, 30)}`);
  await writeFile(join(folder, 'dev.tsv'), `class\ttext\n${examples(30, 41)}`);
  const setups = await Promise.all(
    cases.map(async ({ text, data = byteText, ...rest }, i) => {
      const path = join(folder, `text-${i}.txt`);
      if (text) await writeFile(path, text);
      const files = text
        ? { path, validation: join(folder, 'validation.txt') }
        : { train: join(folder, 'train.tsv'), validation: join(folder, 'dev.tsv') };
      return { ...rest, data: { ...data, ...files }, cacheFolder: join(folder, 'cache'), seed: 11 };
    }),
  );
  for (const kind of ['straight', 'stopped']) {
    const list = setups.map((setup, i) => ({ ...setup, folder: join(folder, kind, String(i)) }));
    await writeFile(join(folder, `${kind}.json`), JSON.stringify(list));
  }
  await train_(join(folder, 'straight.json'), 'start', 0, straight);
  await train_(join(folder, 'stopped.json'), 'start', STOP, stopped);
  await train_(join(folder, 'stopped.json'), 'resume', 0, resumed);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe.each(cases.map(({ name }, i) => [name, i] as const))('%s', (name, i) => {
  const path = (kind: string, file: string): string => join(folder, kind, String(i), file);
  const log = (kind: string): object[] =>
    readMetrics(path(kind, 'metrics.jsonl')).map(({ milliseconds: _, ...record }) => record);

  test('was stopped, and went on', () => {
    expect(straight[i]).toMatchObject({ name, from: 0, step: END, outcome: 'finished' });
    expect(stopped[i]).toMatchObject({ name, from: 0, step: STOP, outcome: 'interrupted' });
    expect(resumed[i]).toMatchObject({ name, from: STOP, step: END, outcome: 'finished', passedOver: [] });
  });

  test.each(['model.safetensors', 'optimizer.safetensors', 'state.json'])(
    'same bytes of %s',
    async (file) => {
      const [a, b] = await Promise.all(
        ['straight', 'stopped'].map((kind) => readFile(path(kind, `checkpoints/step-0000${END}/${file}`))),
      );
      expect(b.length).toBeGreaterThan(100);
      expect(Buffer.compare(a, b)).toBe(0);
    },
  );

  test('same lines in the log: losses, norms, loads, validation', () => {
    const lines = log('straight');
    expect(lines.filter((record) => 'loss' in record)).toHaveLength(END);
    expect(log('stopped')).toEqual(lines);
  });

  test('same batches afterwards', () => {
    expect(resumed[i].nextBatches).toBe(straight[i].nextBatches);
    expect(stopped[i].nextBatches).not.toBe(straight[i].nextBatches);
  });
});
