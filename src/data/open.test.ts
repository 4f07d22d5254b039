import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  ByteTokenizer,
  dataSchema,
  openData,
  openTextForEvaluation,
  type BatchState,
  type DataConfigInput,
  type OpenData,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'switchyard-open-'));
afterAll(() => rmSync(folder, { recursive: true }));
const cacheFolder = join(folder, 'cache');
const path = join(folder, 'text.txt');
writeFileSync(
  path,
  Array.from({ length: 3000 }, (_, line) => `Line ${line} tells of ${line * line} sheep.\n`).join(''),
);
const size = { cacheFolder, contextLength: 24, batchSize: 3, seed: 1, datasetFolder: join(folder, 'data') };
const open = (config: DataConfigInput, more: Partial<typeof size> = {}): Promise<OpenData> =>
  openData(dataSchema.parse(config), { ...size, ...more });

const configs: Record<string, DataConfigInput> = {
  cldr: { kind: 'cldr', languages: ['en', 'ka', 'th'], validationLines: 40 },
  'cldr padded, byte pairs': {
    kind: 'cldr',
    languages: ['en', 'de'],
    layout: 'padded',
    validationLines: 40,
    tokenizer: { kind: 'bpe', vocabSize: 600 },
  },
  'cldr, characters': {
    kind: 'cldr',
    languages: ['en', 'he'],
    validationLines: 40,
    tokenizer: { kind: 'character' },
  },
  text: { kind: 'text', path },
  'text shuffled, byte pairs': {
    kind: 'text',
    path,
    order: 'shuffled',
    tokenizer: { kind: 'bpe', vocabSize: 300 },
  },
  'text as a stream': { kind: 'text', path, order: 'stream' },
  'text, characters': { kind: 'text', path, validationFraction: 0.3, tokenizer: { kind: 'character' } },
};

describe.each(Object.entries(configs))('%s', (_, config) => {
  it('gives batches within the vocabulary, and a resumable order', async () => {
    const data = await open(config);
    const { vocabSize } = data.tokenizer;
    for (let step = 0; step < 5; step++) {
      const { tokens, targets, mask, languages } = data.train.next();
      expect([tokens.length, targets.length, mask.length]).toEqual([72, 72, 72]);
      expect(Math.max(...tokens)).toBeLessThan(vocabSize);
      expect(languages === undefined).toBe(data.languages === undefined);
      if (languages) expect(Math.max(...languages)).toBeLessThan(data.languages!.length);
    }
    const state = JSON.parse(JSON.stringify(data.train.state())) as BatchState;
    const expected = structuredClone(data.train.next());
    data.close();
    const again = await open(config);
    again.train.restore(state);
    expect(again.train.next()).toEqual(expected);
    expect(again.tokenizer.fingerprint).toBe(data.tokenizer.fingerprint);
    again.close();
  });
  it('gives the same validation set at every call', async () => {
    const data = await open(config);
    const validation = data.validation();
    const first = Array.from(validation, (batch) => structuredClone(batch));
    expect(first).toHaveLength(validation.batchCount);
    const counted = first.reduce(
      (sum, batch) => sum + batch.targets.filter((target) => target !== -100).length,
      0,
    );
    expect(counted).toBe(validation.targetCount);
    expect(counted).toBeGreaterThan(500);
    expect(Array.from(data.validation(), (batch) => structuredClone(batch))).toEqual(first);
    expect(data.provenance).toMatch(/^CLDR \d+|text\.txt \(bytes 0 to \d+ of \d+\)/);
    data.close();
  });
});

describe('openData', () => {
  it('covers the validation text and keeps learnt vocabularies', async () => {
    const data = await open({ kind: 'text', path, tokenizer: { kind: 'bpe', vocabSize: 290 } });
    const ids: number[] = [];
    for (const { targets } of data.validation()) ids.push(...targets.filter((target) => target >= 0));
    const text = data.tokenizer.decode(ids);
    expect(text.endsWith('Line 2999 tells of 8994001 sheep.\n')).toBe(true);
    expect(readdirSync(cacheFolder).filter((name) => name.startsWith('tokenizer-')).length).toBeGreaterThan(
      0,
    );
    expect(readdirSync(cacheFolder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
    const saved = join(folder, 'tokenizer.json');
    writeFileSync(saved, JSON.stringify(data.tokenizer.toFile()));
    const loaded = await open({ kind: 'text', path, tokenizer: { kind: 'file', path: saved } });
    expect(loaded.tokenizer.fingerprint).toBe(data.tokenizer.fingerprint);
    data.close();
    loaded.close();
  });
  it('refuses with one clear line', async () => {
    await expect(open({ kind: 'text', path }, { contextLength: 200_000 })).rejects.toThrow(
      /the training text of .*text\.txt has \d+ tokens, but a context of 200000 needs at least 200001/,
    );
    await expect(open({ kind: 'dataset', name: 'tinyshakespeare' })).rejects.toThrow(
      'run `switchyard data fetch tinyshakespeare`',
    );
    await expect(open({ kind: 'text', path: join(folder, 'none.txt') })).rejects.toThrow(
      'none.txt: there is no such file',
    );
    await expect(open({ kind: 'text', path, tokenizer: { kind: 'bpe', vocabSize: 90_000 } })).rejects.toThrow(
      /vocabSize 90000 is too large for this text/,
    );
    await expect(open({ kind: 'cldr', languages: ['en'] }, { batchSize: 1.5 })).rejects.toThrow(
      'batchSize must be a positive integer, not 1.5',
    );
  });
});

describe('dataSchema', () => {
  it('fills in defaults', () => {
    expect(dataSchema.parse({ kind: 'text', path: 'a.txt' })).toEqual({
      kind: 'text',
      path: 'a.txt',
      order: 'random',
      tokenizer: { kind: 'byte', specialTokens: false },
    });
    const cldr = dataSchema.parse({ kind: 'cldr' });
    expect(cldr.kind === 'cldr' && [cldr.languages.length, cldr.layout, cldr.validationLines]).toEqual([
      51,
      'packed',
      2048,
    ]);
  });
  it.each<[unknown, string, string]>([
    [{ kind: 'cldr', languages: ['xx'] }, 'languages.0', 'Invalid option'],
    [{ kind: 'cldr', languages: ['en', 'en'] }, 'languages', 'named twice'],
    [{ kind: 'cldr', laguages: ['en'] }, '', 'laguages'],
    [{ kind: 'web' }, 'kind', 'Invalid'],
    [{ kind: 'text', path: 'a', validation: 'b', validationFraction: 0.1 }, 'validationFraction', 'not both'],
    [{ kind: 'text', path: 'a', tokenizer: { kind: 'bpe', vocabSize: 12 } }, 'tokenizer.vocabSize', '257'],
    [{ kind: 'dataset', name: 'imagenet' }, 'name', 'tinyshakespeare'],
  ])('refuses %j', (config, key, message) => {
    const { error } = dataSchema.safeParse(config);
    expect(error?.issues[0]!.path.join('.')).toBe(key);
    expect(error?.issues[0]!.message).toContain(message);
  });
});

it('opens a text to measure on, in windows or as a stream', async () => {
  const shape = { batchSize: 3, contextLength: 24 };
  const first = async (order?: 'stream'): Promise<readonly [number[], boolean, number]> => {
    const opened = await openTextForEvaluation(path, new ByteTokenizer(), shape, cacheFolder, order);
    const [batch] = opened.sequence;
    const starts = [0, 24, 48].map((at) => batch!.tokens[at]!);
    opened.close();
    return [starts, opened.sequence.continues ?? false, opened.sequence.targetCount];
  };
  const text = readFileSync(path);
  const row = Math.ceil((text.length - 1) / 3);
  expect(await first()).toEqual([[text[0], text[24], text[48]], false, text.length - 1]);
  expect(await first('stream')).toEqual([[text[0], text[row], text[2 * row]], true, text.length - 1]);
});
