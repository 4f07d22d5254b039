import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  dataSchema,
  ignoredTarget,
  openClassification,
  openData,
  openPairs,
  openPairsForEvaluation,
  sentinelsOf,
  trainBytePair,
  loadTokenizer,
  type DataConfigInput,
  type OpenDataOptions,
  type TaskConfig,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-task-'));
afterAll(() => rmSync(folder, { recursive: true }));
const write = (name: string, text: string): string => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const line = (i: number): string => `${i % 3}\tsheep ${i * i} run\tgoats ${i} stand`;
const header = 'Quality\t#1 String\t#2 String';
const lines = (from: number, to: number): string =>
  [header, ...Array.from({ length: to - from }, (_, i) => line(from + i))].join('\n');
const train = write('train.tsv', `${lines(0, 50)}\n`);
const validation = write('dev.tsv', `${lines(50, 61).replaceAll('\n', '\r\n')}\r\n\r\n`);
const config = (more: Partial<DataConfigInput> = {}): TaskConfig =>
  dataSchema.parse({
    kind: 'task',
    train,
    validation,
    source: 'mrpc sentence1: {#1 String} sentence2: {#2 String}',
    label: 'Quality',
    tokenizer: { kind: 'byte', specialTokens: true },
    ...more,
  }) as TaskConfig;
const options: OpenDataOptions = {
  cacheFolder: join(folder, 'cache'),
  contextLength: 64,
  batchSize: 4,
  seed: 3,
};
const text = (ids: ArrayLike<number>): string =>
  Buffer.from(Array.from(ids).filter((id) => id < 256)).toString();

describe('a classification task', () => {
  it('fills the template, numbers the classes, and ends every source', async () => {
    const { train: source, validation: held, classes } = await openClassification(config(), options);
    expect(classes).toEqual(['0', '1', '2']);
    const seen = new Map<string, number>();
    for (let n = 0; n < 25; n++) {
      const batch = source.next();
      for (let row = 0; row < 4; row++) {
        const ids = [...batch.source.subarray(row * 64, (row + 1) * 64)];
        const end = ids.indexOf(258);
        expect(ids.slice(end + 1).every((id) => id === 256)).toBe(true);
        expect([...batch.sourceMask.subarray(row * 64, (row + 1) * 64)]).toEqual(
          ids.map((_, i) => Number(i <= end)),
        );
        const read = text(ids);
        seen.set(read, (seen.get(read) ?? 0) + 1);
        const [, square] = /sheep (\d+) run sentence2: goats \d+ stand$/.exec(read)!;
        expect(batch.targets[row]).toBe(Math.sqrt(Number(square)) % 3);
      }
    }
    // Two epochs: every example exactly twice.
    expect([...seen.values()]).toEqual(new Array(50).fill(2));
    const sequence = held();
    const rows = Array.from(sequence, ({ targets }) => [...targets]).flat();
    expect(rows).toEqual([...Array.from({ length: 11 }, (_, i) => (50 + i) % 3), ignoredTarget]);
    expect([sequence.batchCount, sequence.targetCount]).toEqual([3, 11]);
  });
  it('shuffles each epoch anew, and goes on from a saved position', async () => {
    const { train: source } = await openClassification(config(), options);
    const epochs = [0, 1].map(() => Array.from({ length: 12 }, () => text(source.next().source)).join('|'));
    expect(epochs[0]).not.toBe(epochs[1]);
    const state = source.state();
    const expected = structuredClone(source.next());
    const again = await openClassification(config(), options);
    again.train.restore(state);
    expect(again.train.next()).toEqual(expected);
    const other = await openClassification(
      config({ source: '{#1 String}' } as Partial<DataConfigInput>),
      options,
    );
    expect(() => other.train.restore(state)).toThrow(
      'the saved data position is of other batches: corpus was',
    );
  });
  it('cuts a text that is too long, but not its end token', async () => {
    const { train: source } = await openClassification(config(), { ...options, contextLength: 10 });
    const ids = source.next().source.subarray(0, 10);
    expect(text(ids)).toBe('mrpc sent');
    expect(ids[9]).toBe(258);
  });
  it.each<[string, Partial<DataConfigInput>, RegExp]>([
    [
      'no such column',
      { label: 'Class' },
      /train\.tsv has no column "Class"; it has Quality, #1 String, #2 String/,
    ],
    ['no column of the template', { source: '{#3 String}' }, /train\.tsv has no column "#3 String"/],
    ['a class that is not told', { classes: ['0', '1'] }, /line 4: Quality is "2"; the classes are 0, 1/],
    [
      'a broken line',
      { train: write('broken.tsv', 'a\tb\n1\t2\n3\n') },
      /broken\.tsv, line 3: 1 cells, but the header names 2/,
    ],
    ['no example', { train: write('empty.tsv', 'a\tb\n') }, /empty\.tsv has a header line and no example/],
    ['a column twice', { train: write('twice.tsv', 'a\ta\n1\t2\n') }, /two columns are called "a"/],
    ['no file', { validation: join(folder, 'none.tsv') }, /none\.tsv: there is no such file/],
    ['no pad token', { tokenizer: { kind: 'byte' } }, /need a tokenizer with a pad token: learn one with/],
  ])('refuses %s', async (_, more, message) => {
    const refused = openClassification(config(more), options);
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toThrow(/^[^\n]+$/);
  });
});

describe('a task with a target', () => {
  const told = {
    label: undefined,
    target: 'is {Quality}',
    source: '{#2 String}',
  } as Partial<DataConfigInput>;
  it('says it, ended, behind the start token', async () => {
    const { train: source } = await openPairs(config(told), { ...options, targetLength: 8 });
    const { source: read, target, targets, targetMask } = source.next();
    const [, number] = /goats (\d+) stand/.exec(text(read.subarray(0, 64)))!;
    const said = [...Buffer.from(`is ${Number(number) % 3}`), 258];
    expect([...targets.subarray(0, 8)]).toEqual([...said, ignoredTarget, ignoredTarget, ignoredTarget]);
    expect([...target.subarray(0, 8)]).toEqual([256, ...said.slice(0, -1), 256, 256, 256]);
    expect([...targetMask.subarray(0, 8)]).toEqual([1, 1, 1, 1, 1, 0, 0, 0]);
    expect(source.targetLength).toBe(8);
  });
  it('begins with another token where the model asks for it', async () => {
    const { train: source } = await openPairs(config(told), { ...options, start: 257 });
    expect(source.next().target[0]).toBe(257);
  });
  it('is refused where the model reads something else', async () => {
    await expect(openPairs(config(), options)).rejects.toThrow(
      'an encoder–decoder says text: give data.target',
    );
    await expect(openClassification(config(told), options)).rejects.toThrow('a classifier learns classes');
    await expect(openData(config(), options)).rejects.toThrow(
      'a language model reads kind text, dataset or cldr',
    );
  });
});

describe('span corruption of a corpus', () => {
  const path = write(
    'text.txt',
    Array.from({ length: 900 }, (_, i) => `Line ${i} tells of ${i * i} sheep.\n`).join(''),
  );
  const tokenizer = { kind: 'bpe', vocabSize: 300, sentinels: 8 } as const;
  it.each<[string, DataConfigInput]>([
    ['text', { kind: 'text', path, order: 'shuffled', tokenizer }],
    [
      'cldr',
      {
        kind: 'cldr',
        languages: ['en', 'de'],
        validationLines: 40,
        tokenizer: { ...tokenizer, vocabSize: 320 },
      },
    ],
    [
      'cldr, a line a row',
      { kind: 'cldr', languages: ['en'], validationLines: 40, layout: 'padded', tokenizer },
    ],
  ])('%s', async (_, given) => {
    const data = await openPairs(dataSchema.parse(given), { ...options, contextLength: 32 });
    const sentinels = sentinelsOf(data.tokenizer);
    expect(sentinels).toEqual(Array.from({ length: 8 }, (_, i) => data.tokenizer.vocabSize - 1 - i));
    const { source, targets } = data.train.next();
    expect(source).toContain(sentinels[0]);
    expect(targets[0]).toBe(sentinels[0]);
    expect(data.train.contextLength).toBe(32);
    const [batch] = data.validation();
    expect(batch!.targets[0]).toBe(sentinels[0]);
    data.close();
  });
  it('the text is measured alike from its file alone', async () => {
    const held = write('held.txt', 'A line tells of sheep. '.repeat(40));
    const data = await openPairs(dataSchema.parse({ kind: 'text', path, validation: held, tokenizer }), {
      ...options,
      contextLength: 32,
    });
    const shape = { batchSize: 4, contextLength: 32 };
    const opened = await openPairsForEvaluation(held, data.tokenizer, shape, options.cacheFolder);
    const rows = (sequence: Iterable<object>): object[] =>
      Array.from(sequence, (batch) => structuredClone(batch));
    expect(rows(opened.sequence)).toEqual(rows(data.validation()));
    opened.close();
    data.close();
  });
  it('refuses what cannot be marked or told', async () => {
    const byte = dataSchema.parse({ kind: 'text', path, tokenizer: { kind: 'byte', specialTokens: true } });
    await expect(openPairs(byte, options)).rejects.toThrow(
      'span corruption needs a tokenizer with sentinels',
    );
    const known = dataSchema.parse({ kind: 'text', path, tokenizer });
    await expect(openPairs(known, { ...options, targetLength: 4 })).rejects.toThrow(
      /sources of 64 tokens makes targets of \d+, but targetLength is 4/,
    );
  });
});

describe('a vocabulary with sentinels', () => {
  const sample = 'the sheep and the goats of the hill '.repeat(30);
  it('puts T5’s tokens around the merges of the plain one', () => {
    const plain = trainBytePair([sample], { vocabSize: 270 });
    const t5 = trainBytePair([sample], { vocabSize: 277, sentinels: 6 });
    expect([t5.vocabSize, t5.special]).toEqual([277, { pad: 0, eos: 1 }]);
    expect([...t5.encode('the sheep')]).toEqual([...plain.encode('the sheep')].map((id) => id + 2));
    expect([...t5.encode('<extra_id_0>a</s>')]).toEqual([276, ...t5.encode('a'), 1]);
    expect(sentinelsOf(t5)).toEqual([276, 275, 274, 273, 272, 271]);
    expect(sentinelsOf(plain)).toEqual([]);
    expect(t5.decode(t5.encode('the <extra_id_1>hill</s>'))).toBe('the hill');
  });
  it('comes back from its file', () => {
    const t5 = trainBytePair([sample], { vocabSize: 277, sentinels: 6 });
    const loaded = loadTokenizer(write('tokenizer.json', JSON.stringify(t5.toFile())));
    expect([loaded.fingerprint, loaded.special]).toEqual([t5.fingerprint, t5.special]);
  });
  it('says how many tokens a short text has room for', () => {
    expect(() => trainBytePair(['ab ab'], { vocabSize: 400, sentinels: 6 })).toThrow(
      /vocabSize 393 is too large/,
    );
  });
});
