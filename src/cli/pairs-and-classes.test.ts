import { existsSync } from 'node:fs';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { switchyard, twoAtATime, type Ended } from '../../test/support/command.js';
import { temporaryFolder } from '../../test/support/tiny-training.js';
import { readMetrics } from '../train/index.js';

const stacks = {
  hiddenSize: 16,
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  numHeads: 2,
  intermediateSize: 32,
  contextLength: 16,
  sparse: { every: 2, numExperts: 4 },
};
const train = {
  batchSize: 4,
  steps: 12,
  schedule: { warmupSteps: 2, learningRate: 0.01 },
  evaluation: { every: 6 },
  checkpoint: { every: 6 },
};
const spans = {
  name: 'spans',
  model: { kind: 'encoderDecoder', ...stacks },
  data: {
    kind: 'text',
    path: 'text.txt',
    order: 'shuffled',
    tokenizer: { kind: 'bpe', vocabSize: 300, sentinels: 8 },
  },
  train,
};
const mood = {
  name: 'mood',
  model: { kind: 'classifier', head: 'decoderEos', numLabels: 2, ...stacks },
  data: {
    kind: 'task',
    train: 'train.tsv',
    validation: 'dev.tsv',
    source: 'sentence: {text}',
    label: 'mood',
    classes: ['bad', 'good'],
    tokenizer: { kind: 'file', path: 'spans/model/tokenizer.json' },
  },
  train: { ...train, freeze: ['*.feedForward.router.*', '*.feedForward.experts.*'] },
};

let folder: string;
const command = (...args: string[]): Promise<Ended> => switchyard(args, { cwd: folder });
const write = (name: string, content: string | object): Promise<void> =>
  writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
const examples = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, i) => {
    const good = (from + i) % 3 !== 0;
    return `${good ? 'good' : 'bad'}\tthe ${good ? 'sun' : 'rain'} of day ${from + i}\n`;
  }).join('');

/** The one JSON object on standard output. */
function json({ code, stdout, stderr }: Ended): Record<string, unknown> {
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Record<string, unknown>;
}

beforeAll(async () => {
  folder = await temporaryFolder();
  await write(
    'text.txt',
    Array.from({ length: 500 }, (_, i) => `Day ${i} tells of ${i * i} suns and rain.\n`).join(''),
  );
  await write('train.tsv', `mood\ttext\n${examples(0, 40)}`);
  await write('dev.tsv', `mood\ttext\n${examples(40, 61)}`);
  await write('spans.json', spans);
  await write('mood.json', mood);
  expect(await command('train', 'spans.json', '--out', 'spans')).toMatchObject({ code: 0 });
  expect(await command('train', 'mood.json', '--out', 'mood', '--from', 'spans')).toMatchObject({ code: 0 });
  await cp(join(folder, 'mood/model'), join(folder, 'moved'), { recursive: true });
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('an encoder–decoder', () => {
  test('is measured on its validation set as in training, and its folder alone on a text', async () => {
    const [run, text] = await twoAtATime(
      [
        ['eval', 'spans', '--json'],
        ['eval', 'spans/model', '--data', 'text.txt', '--json'],
      ],
      (args) => command(...args),
    );
    const report = json(run!);
    const logged = readMetrics(join(folder, 'spans/metrics.jsonl')).at(-1)!['validation'];
    const { loss, tokens, exactMatch } = report;
    expect({ tokens, exactMatch }).toEqual({
      tokens: (logged as typeof report)['tokens'],
      exactMatch: (logged as typeof report)['exactMatch'],
    });
    expect(loss).toBeCloseTo((logged as { loss: number }).loss, 5);
    expect((json(text!)['tokens'] as number) > (tokens as number)).toBe(true);
  });
  test('inspect tells its sizes', async () => {
    expect(json(await command('inspect', 'spans', '--json'))).toMatchObject({
      kind: 'encoderDecoder',
      vocabSize: 300,
      sparseLayers: [1, 3],
    });
  });
});

describe('a classifier', () => {
  test('begins with the pre-trained stacks, and keeps what is frozen', async () => {
    const { loadModel } = await import('../train/index.js');
    const [before, after] = await Promise.all(
      ['spans', 'mood'].map(async (run) => (await loadModel(join(folder, run))).weights),
    );
    const router = 'encoder.blocks.1.feedForward.router.classifier.weight';
    expect(after!.get(router)).toEqual(before!.get(router));
    for (const part of ['encoder', 'decoder'])
      expect(after!.get(`${part}.blocks.1.feedForward.experts.up`)).toEqual(
        before!.get(`${part}.blocks.1.feedForward.experts.up`),
      );
    expect(after!.get('embedding.weight')).not.toEqual(before!.get('embedding.weight'));
    const moved = [...after!.get('embedding.weight')!].map((value, i) =>
      Math.abs(value - before!.get('embedding.weight')![i]!),
    );
    // Twelve steps of Adam from where pre-training ended; another start would be further away.
    expect(Math.max(...moved)).toBeLessThan(0.2);
  });
  test('is measured where it is, where it was moved, and on other examples', async () => {
    const [run, moved, other, lines] = await twoAtATime(
      [
        ['eval', 'mood', '--json'],
        ['eval', 'moved', '--recipe', 'mood', '--json'],
        ['eval', 'mood', '--data', 'train.tsv', '--json'],
        ['eval', 'mood'],
      ],
      (args) => command(...args),
    );
    const report = json(run!);
    const classification = report['classification'] as { accuracy: { value: number }; examples: number };
    expect(classification).toMatchObject({ examples: 21, majority: { class: 1, accuracy: 14 / 21 } });
    expect({ ...json(moved!), model: 0, data: 0 }).toEqual({ ...report, model: 0, data: 0 });
    expect(json(other!)).toMatchObject({ tokens: 40, classification: { examples: 40 } });
    expect(lines!.stdout).toContain(`accuracy      ${classification.accuracy.value.toFixed(4)} ± `);
    expect(lines!.stdout).toMatch(/^majority {6}0\.6667 \(class 1\); the model is (not )?above it/m);
    expect(readMetrics(join(folder, 'mood/metrics.jsonl')).at(-1)).toMatchObject({
      validation: { accuracy: classification.accuracy.value, examples: 21 },
    });
  });
});

describe('what does not fit is refused in one line', () => {
  const other = { ...spans, model: { ...spans.model, hiddenSize: 24, numHeads: 3 } };
  const known = { ...spans.data, tokenizer: mood.data.tokenizer };
  const rows: readonly (readonly [string, object | undefined, readonly string[], string])[] = [
    [
      'a tokenizer without sentinels',
      { ...spans, data: { ...spans.data, tokenizer: { kind: 'byte', specialTokens: true } } },
      ['train'],
      'span corruption needs a tokenizer with sentinels',
    ],
    [
      'another number of classes',
      { ...mood, model: { ...mood.model, numLabels: 3 } },
      ['train'],
      'model.numLabels is 3, but train.tsv has 2 classes: bad, good',
    ],
    [
      'weights of other sizes',
      { ...other, data: known },
      ['train', '--from', 'spans'],
      'the model in spans does not fit the recipe: embedding.weight is [300, 16] there and [300, 24] here',
    ],
    [
      'a classifier for an encoder–decoder',
      { ...spans, data: known },
      ['train', '--from', 'mood'],
      'the model in mood does not fit the recipe: classifier.dense.weight is [16, 16] there and absent here',
    ],
    [
      'an end token that the tokenizer has not',
      { ...spans, model: { ...spans.model, eosTokenId: 7 } },
      ['train'],
      "model.eosTokenId is 7, but the tokenizer's is 1; leave it out to take theirs",
    ],
    ['no examples for a classifier', undefined, ['eval', 'moved'], 'with --recipe RUN'],
    [
      'a recipe of another kind',
      undefined,
      ['eval', 'moved', '--recipe', 'spans'],
      'moved holds a model of kind classifier, but the recipe is of kind encoderDecoder',
    ],
    ['a language model where none is', undefined, ['generate', 'mood', '--prompt', 'a'], 'kind'],
  ];
  let results: Ended[];
  beforeAll(async () => {
    for (const [i, [, recipe]] of rows.entries()) if (recipe) await write(`wrong-${i}.json`, recipe);
    results = await twoAtATime(
      rows.map(([, recipe, [verb, ...rest]], i) =>
        recipe ? [verb!, `wrong-${i}.json`, '--out', 'x', ...rest] : [verb!, ...rest],
      ),
      (args) => command(...args),
    );
  }, 120_000);
  test.each(rows.map(([what], i) => [what, i] as const))('%s', (_, i) => {
    expect(results[i]!.stderr).toMatch(/^switchyard: [^\n]+\n$/);
    expect(results[i]!.stderr).toContain(rows[i]![3]);
    expect(results[i]!.code).toBe(1);
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });
});
