import { describe, expect, it } from 'vitest';
import * as fc from 'fast-check';
import { CldrCorpus } from '../cldr/corpus.js';
import { ByteTokenizer } from '../tokenizers/byte-tokenizer.js';
import { ignoredTarget, type Batch, type BatchSource } from './batch.js';
import { PackedLines, packValidation } from './packed-lines.js';
import { PaddedLines, PaddedValidation } from './padded-lines.js';
import { permute } from './permutation.js';
import { RandomWindows } from './random-windows.js';
import { SequentialWindows } from './sequential-windows.js';
import { ShuffledWindows } from './shuffled-windows.js';
import { StreamSequence, StreamWindows } from './stream-windows.js';
import { MemoryTokens } from './token-source.js';

const counting = (length: number, fingerprint = 'counting'): MemoryTokens =>
  new MemoryTokens(
    Int32Array.from({ length }, (_, index) => index),
    fingerprint,
  );
const copy = (batch: Batch): Batch => structuredClone(batch);
const corpus = new CldrCorpus({ seed: 5, languages: ['en', 'ar', 'ja'], validationMeanings: 20 });
const tokenizer = new ByteTokenizer({ specialTokens: true });
const plain = new ByteTokenizer();
const shape = { batchSize: 4, contextLength: 16 };
const lines = { ...shape, fingerprint: 'cldr', tokenizer };

/** The suite that every training source passes. */
const sources: Record<string, () => BatchSource> = {
  'random windows': () => new RandomWindows(counting(1000), { ...shape, seed: 3 }),
  'shuffled windows': () => new ShuffledWindows(counting(1000), { ...shape, seed: 3 }),
  stream: () => new StreamWindows(counting(1000), shape),
  'packed lines': () => new PackedLines(corpus, lines),
  'padded lines': () => new PaddedLines(corpus, lines),
};

describe.each(Object.entries(sources))('%s', (_, open) => {
  it.each([0, 1, 7, 61, 200])('go on exactly after a restore at batch %i', (count) => {
    const source = open();
    for (let step = 0; step < count; step++) source.next();
    const saved = JSON.stringify(source.state());
    const expected = Array.from({ length: 100 }, () => copy(source.next()));
    const resumed = open();
    resumed.next();
    resumed.restore(JSON.parse(saved) as ReturnType<BatchSource['state']>);
    expect(Array.from({ length: 100 }, () => copy(resumed.next()))).toEqual(expected);
    expect(resumed.state()).toEqual(source.state());
  });

  it('write every batch into the same arrays', () => {
    const source = open();
    const first = source.next();
    expect(source.next().tokens).toBe(first.tokens);
    expect(first.tokens).toHaveLength(64);
  });

  it('target the following token', () => {
    const source = open();
    for (let step = 0; step < 50; step++) {
      const { tokens, targets, mask } = source.next();
      for (let index = 0; index < tokens.length; index++) {
        if (!mask[index]) expect(targets[index]).toBe(ignoredTarget);
        else if ((index + 1) % 16 && mask[index + 1]) expect(targets[index]).toBe(tokens[index + 1]);
      }
    }
  });

  it('refuse the position of other batches, and a damaged one', () => {
    const source = open();
    const state = source.state();
    expect(() => source.restore({ ...state, batchSize: 8 })).toThrow('batchSize was 8 and is 4');
    expect(() => source.restore({ ...state, corpus: 'other' })).toThrow(/corpus was "other"/);
    expect(() => source.restore({})).toThrow(/order was no value/);
    const counter = Object.keys(state).find((key) => /step|windows|batches|line/.test(key))!;
    expect(() => source.restore({ ...state, [counter]: -1 })).toThrow(
      `no valid ${counter}: expected a count, found -1`,
    );
  });
});

describe('random windows', () => {
  it('reach the first and the last window and no further', () => {
    const source = new RandomWindows(counting(18), { ...shape, seed: 1 });
    const starts = new Set<number>();
    for (let step = 0; step < 20; step++) {
      const { tokens, targets } = source.next();
      for (let row = 0; row < 4; row++) starts.add(tokens[row * 16]);
      expect(Math.max(...targets)).toBeLessThan(18);
    }
    expect([...starts].sort()).toEqual([0, 1]);
  });
  it('cover a source evenly', () => {
    const source = new RandomWindows(counting(1016), { ...shape, seed: 2 });
    const bins = new Array<number>(10).fill(0);
    for (let step = 0; step < 2500; step++) {
      const { tokens } = source.next();
      for (let row = 0; row < 4; row++) bins[Math.floor(tokens[row * 16] / 100)]++;
    }
    for (const bin of bins) expect(Math.abs(bin - 1000)).toBeLessThan(150);
  });
  it('depend on the seed', () => {
    const first = (seed: number) => copy(new RandomWindows(counting(1000), { ...shape, seed }).next()).tokens;
    expect(first(1)).not.toEqual(first(2));
  });
  it('refuse a source shorter than one context, naming both numbers', () => {
    expect(() => new RandomWindows(counting(16), { ...shape, seed: 1 })).toThrow(
      'the corpus has 16 tokens, but a context of 16 needs at least 17',
    );
    expect(() => new RandomWindows(counting(99), { batchSize: 0, contextLength: 8, seed: 1 })).toThrow(
      'batchSize must be a positive integer, not 0',
    );
  });
});

describe('a stream', () => {
  it('reads on row by row, restarts with every epoch, and says so', () => {
    // 9 windows of 3 for 2 rows: 4 batches an epoch, and the last window stays out.
    const source = new StreamWindows(counting(30), { batchSize: 2, contextLength: 3 });
    expect([source.batchCount, source.continues]).toEqual([4, true]);
    const batches = Array.from({ length: 9 }, () => copy(source.next()));
    expect(batches.map(({ restarts }) => restarts)).toEqual([
      true,
      false,
      false,
      false,
      true,
      false,
      false,
      false,
      true,
    ]);
    const row = (which: number): number[] =>
      batches.slice(0, 4).flatMap(({ tokens }) => [...tokens.slice(3 * which, 3 * which + 3)]);
    expect(row(0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(row(1)).toEqual([12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]);
    for (let at = 0; at < 4; at++) expect(batches[at + 4]).toEqual(batches[at]);
    for (const { tokens, targets } of batches)
      expect([...targets]).toEqual(Array.from(tokens, (id) => id + 1));
  });
  it('takes a source that just fits and refuses a shorter one', () => {
    expect(new StreamWindows(counting(7), { batchSize: 2, contextLength: 3 }).batchCount).toBe(1);
    expect(() => new StreamWindows(counting(6), { batchSize: 2, contextLength: 3 })).toThrow(
      'the corpus has 6 tokens, but a stream of 2 rows of 3 needs at least 7',
    );
  });
  it.each([
    [2, 5, 4],
    [30, 4, 3],
    [31, 3, 5],
    [9, 8, 4],
    [100, 1, 7],
  ])(
    'of %i tokens predicts each but the first once, in %i rows of %i',
    (length, batchSize, contextLength) => {
      const sequence = new StreamSequence(counting(length), { batchSize, contextLength, pad: 7 });
      const seen: number[] = [];
      const rows = Array.from({ length: batchSize }, (): number[] => []);
      let batches = 0;
      for (const { tokens, targets, mask } of sequence) {
        batches++;
        targets.forEach((target, at) => {
          expect(mask[at]).toBe(Number(target !== ignoredTarget));
          if (target === ignoredTarget) expect(tokens[at]).toBe(7);
          else {
            expect(target).toBe(tokens[at] + 1);
            seen.push(target);
            rows[Math.floor(at / contextLength)]!.push(target);
          }
        });
      }
      expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: length - 1 }, (_, i) => i + 1));
      expect([sequence.batchCount, sequence.targetCount]).toEqual([batches, length - 1]);
      // Each row is one slice without gaps, whatever the number of batches.
      for (const row of rows) expect(row).toEqual(row.map((_, i) => row[0]! + i));
    },
  );
  it('of one token has nothing to predict', () => {
    expect(() => new StreamSequence(counting(1), shape)).toThrow('nothing can be predicted');
  });
});

describe('permutation', () => {
  it('sends 0 … n − 1 onto itself', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.integer({ min: 0, max: 0xffffffff }),
        (count, key) => {
          const image = new Set(Array.from({ length: count }, (_, index) => permute(key, count, index)));
          expect(image.size).toBe(count);
          expect(Math.max(...image)).toBe(count - 1);
        },
      ),
      { seed: 20, numRuns: 60 },
    );
  });
  it('mixes: hardly any element follows its neighbour or stays', () => {
    const image = Array.from({ length: 10_000 }, (_, index) => permute(77, 10_000, index));
    expect(image.filter((value, index) => value === index).length).toBeLessThan(10);
    expect(image.filter((value, index) => value === image[index - 1] + 1).length).toBeLessThan(10);
  });
  it('works where 32 bits do not suffice', () => {
    const count = 2 ** 40 + 17;
    const image = Array.from({ length: 2000 }, (_, index) => permute(5, count, count - 1 - index));
    expect(new Set(image).size).toBe(2000);
    expect(image.every((value) => Number.isSafeInteger(value) && value >= 0 && value < count)).toBe(true);
  });
});

describe('shuffled windows', () => {
  it('give each window once an epoch, in another order each epoch', () => {
    // 62 windows and rows of 4: epochs end inside a batch.
    const source = new ShuffledWindows(counting(1000), { ...shape, seed: 9 });
    expect(source.windowCount).toBe(62);
    const starts: number[] = [];
    for (let step = 0; step < 31; step++) {
      const { tokens } = source.next();
      for (let row = 0; row < 4; row++) starts.push(tokens[row * 16]);
      if (step === 15) expect(source.epoch).toBe(1);
    }
    const [first, second] = [starts.slice(0, 62), starts.slice(62)];
    const sorted = Array.from({ length: 62 }, (_, window) => window * 16);
    expect(first.toSorted((a, b) => a - b)).toEqual(sorted);
    expect(second.toSorted((a, b) => a - b)).toEqual(sorted);
    expect(first).not.toEqual(second);
    expect(first).not.toEqual(sorted);
  });
});

describe('sequential windows', () => {
  it('predict every token but the first exactly once, for any sizes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 300 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 70 }),
        (length, batchSize, contextLength) => {
          const windows = new SequentialWindows(counting(length), { batchSize, contextLength, pad: 999 });
          const seen: number[] = [];
          let batches = 0;
          for (const { tokens, targets, mask } of windows) {
            batches++;
            targets.forEach((target, index) => {
              if (mask[index]) {
                expect(target).toBe(tokens[index] + 1);
                seen.push(target);
              } else expect([tokens[index], target]).toEqual([999, ignoredTarget]);
            });
          }
          expect(seen).toEqual(Array.from({ length: length - 1 }, (_, index) => index + 1));
          expect([windows.batchCount, windows.targetCount]).toEqual([batches, length - 1]);
        },
      ),
      { seed: 4, numRuns: 100 },
    );
  });
  it('refuse a single token', () => {
    expect(() => new SequentialWindows(counting(1), shape)).toThrow('nothing can be predicted');
  });
});

describe('packed lines', () => {
  it('are the training lines, separated, with the language of each', () => {
    const source = new PackedLines(corpus, { ...lines, tokenizer: plain });
    const tokens: number[] = [];
    const languages: number[] = [];
    for (let step = 0; step < 40; step++) {
      const batch = source.next();
      tokens.push(...batch.tokens);
      languages.push(...batch.languages!);
      expect(batch.mask.every((value) => value === 1)).toBe(true);
    }
    const texts = plain.decode(tokens).split('\n').slice(0, -1);
    expect(texts.length).toBeGreaterThan(10);
    let at = 0;
    texts.forEach((text, index) => {
      const line = corpus.line('train', index);
      expect(text).toBe(line.text);
      const count = Buffer.byteLength(text) + 1;
      expect(new Set(languages.slice(at, at + count))).toEqual(new Set([line.language]));
      at += count;
    });
  });
  it('refuse an offset beyond the line', () => {
    const source = new PackedLines(corpus, lines);
    expect(() => source.restore({ ...source.state(), offset: 5000 })).toThrow(
      /token 5000 of line 0, which has \d+ tokens/,
    );
  });
  it('give validation lines with their languages', () => {
    const packed = packValidation(corpus, tokenizer, 7, 'cldr');
    const ids = new Int32Array(packed.length);
    const languages = new Int32Array(packed.length);
    packed.read(0, packed.length, ids, 0);
    packed.readLanguages!(0, packed.length, languages, 0);
    expect(ids.filter((id) => id === 258)).toHaveLength(7);
    expect(languages[0]).toBe(corpus.line('validation', 0).language);
    expect(languages.at(-1)).toBe(corpus.line('validation', 6).language);
    expect(tokenizer.decode(ids.subarray(0, ids.indexOf(258)))).toBe(corpus.line('validation', 0).text);
  });
});

describe('padded lines', () => {
  it('hold one line a row between begin and end, padded or cut', () => {
    const long = { ...lines, contextLength: 400 };
    const batch = new PaddedLines(corpus, long).next();
    for (let row = 0; row < 4; row++) {
      const line = corpus.line('train', row);
      const bytes = [...Buffer.from(line.text)];
      const [tokens, targets, mask, languages] = [
        batch.tokens,
        batch.targets,
        batch.mask,
        batch.languages!,
      ].map((array) => [...array].slice(row * 400, row * 400 + 400)) as [
        number[],
        number[],
        number[],
        number[],
      ];
      const padding = 400 - bytes.length - 1;
      expect(tokens).toEqual([257, ...bytes, ...new Array<number>(padding).fill(256)]);
      expect(targets).toEqual([...bytes, 258, ...new Array<number>(padding).fill(ignoredTarget)]);
      expect(mask).toEqual([
        ...new Array<number>(bytes.length + 1).fill(1),
        ...new Array<number>(padding).fill(0),
      ]);
      expect(languages.slice(0, bytes.length + 1).every((language) => language === line.language)).toBe(true);
    }
    const cut = new PaddedLines(corpus, { ...lines, tokenizer: plain }).next();
    expect(cut.tokens[0]).toBe(10);
    expect(plain.decode(cut.targets.subarray(0, 16))).toBe(
      plain.decode(plain.encode(corpus.line('train', 0).text).subarray(0, 16)),
    );
  });
  it('count the targets of the validation lines', () => {
    const validation = new PaddedValidation(corpus, { ...lines, contextLength: 400 }, 10);
    expect(validation.batchCount).toBe(3);
    let expected = 0;
    for (let index = 0; index < 10; index++)
      expected += Buffer.byteLength(corpus.line('validation', index).text) + 1;
    expect(validation.targetCount).toBe(expected);
    const rows = [...validation].length;
    expect(rows).toBe(3);
  });
});
