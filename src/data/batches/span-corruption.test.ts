import { describe, expect, it } from 'vitest';
import { streamKey, uniformAt } from '../../nn/index.js';
import { ignoredTarget, type PairBatch } from './batch.js';
import { CorruptedSequence, CorruptedWindows } from './corrupted-windows.js';
import { SequentialWindows } from './sequential-windows.js';
import { ShuffledWindows } from './shuffled-windows.js';
import { corruptedLengths, corruptSpans, windowLength } from './span-corruption.js';
import { MemoryTokens } from './token-source.js';

const t5 = { noiseDensity: 0.15, meanSpanLength: 3 };
const [pad, end, first] = [0, 1, 1000];
const sentinels = Array.from({ length: 40 }, (_, i) => first - i);
const isSentinel = (id: number): boolean => id > first - 40 && id <= first;

/** Puts a source and its target together again. */
function repaired(source: readonly number[], target: readonly number[]): number[] {
  expect([source.at(-1), target.at(-1)]).toEqual([end, end]);
  const taken = new Map<number, number[]>();
  let current: number[] = [];
  for (const id of target.slice(0, -1)) {
    if (isSentinel(id)) taken.set(id, (current = []));
    else current.push(id);
  }
  expect([...taken.keys()]).toEqual(sentinels.slice(0, taken.size));
  expect(source.filter(isSentinel)).toEqual([...taken.keys()]);
  return source.slice(0, -1).flatMap((id) => taken.get(id) ?? [id]);
}

describe('lengths', () => {
  it('are those of T5: 568 tokens fill 512 and are told in 114', () => {
    expect(windowLength(512, t5)).toBe(568);
    expect(corruptedLengths(568, t5)).toEqual({ noiseTokens: 85, spans: 28, source: 512, target: 114 });
  });
  it('leave at least one token of each kind, and no span without a token before it', () => {
    for (const options of [
      t5,
      { noiseDensity: 0.9, meanSpanLength: 1 },
      { noiseDensity: 0.01, meanSpanLength: 20 },
    ]) {
      for (let length = 2; length < 60; length++) {
        const { noiseTokens, spans, source, target } = corruptedLengths(length, options);
        expect(noiseTokens).toBeGreaterThan(0);
        expect(noiseTokens).toBeLessThan(length);
        expect(spans).toBeGreaterThan(0);
        expect(spans).toBeLessThanOrEqual(Math.min(noiseTokens, length - noiseTokens));
        expect(source + target).toBe(length + 2 * spans + 2);
      }
    }
  });
  it.each([3, 16, 64, 100, 128, 512])('a window for %i positions is the longest that fits', (room) => {
    const length = windowLength(room, t5);
    expect(corruptedLengths(length, t5).source).toBeLessThanOrEqual(room);
    expect(corruptedLengths(length + 1, t5).source).toBeGreaterThan(room);
  });
  it('refuses a row without room', () => {
    expect(() => windowLength(2, t5)).toThrow('contextLength 2 has no room for a corrupted text');
  });
});

describe('corruptSpans', () => {
  const corrupt = (length: number, key: number, options = t5) => {
    const tokens = Array.from({ length }, (_, i) => 2 + i);
    const { source, target } = corruptSpans(tokens, key, { sentinels, end }, options);
    return { tokens, source: [...source], target: [...target] };
  };
  it('takes out what the target says, whatever the key', () => {
    for (let key = 0; key < 200; key++) {
      const length = 2 + Math.floor(100 * uniformAt(key, 1));
      const { tokens, source, target } = corrupt(length, key);
      expect(repaired(source, target)).toEqual(tokens);
      const lengths = corruptedLengths(length, t5);
      expect([source.length, target.length]).toEqual([lengths.source, lengths.target]);
      expect(isSentinel(source[0]!)).toBe(false);
    }
  });
  it('is a pure function of the key', () => {
    expect(corrupt(90, 7)).toEqual(corrupt(90, 7));
    expect(corrupt(90, 7)).not.toEqual(corrupt(90, 8));
  });
  it('cuts everywhere alike: the share taken out is the density at every place but the first', () => {
    const [length, count] = [20, 4000];
    const taken = new Array<number>(length).fill(0);
    for (let n = 0; n < count; n++) {
      const { target } = corrupt(length, streamKey('uniform', n), { noiseDensity: 0.3, meanSpanLength: 2 });
      for (const id of target) if (id >= 2 && !isSentinel(id)) taken[id - 2]++;
    }
    const { noiseTokens, spans } = corruptedLengths(length, { noiseDensity: 0.3, meanSpanLength: 2 });
    expect(taken.reduce((a, b) => a + b)).toBe(noiseTokens * count);
    expect(taken[0]).toBe(0);
    expect(taken.at(-1)).toBe(count);
    // Cuts of 14 kept tokens into 3 parts: token 1 is taken where the first part is 1 long, 12 of 78 ways.
    expect(spans).toBe(3);
    expect(Math.abs(taken[1]! / count - 12 / 78)).toBeLessThan(0.02);
  });
});

describe('batches', () => {
  const text = new MemoryTokens(
    Int32Array.from({ length: 40 * 30 + 1 }, (_, i) => 2 + (i % 500)),
    'text',
  );
  const options = { ...t5, sentinels, end, pad, start: pad };
  const shape = { batchSize: 4, contextLength: windowLength(32, t5) };
  const train = (seed = 1): CorruptedWindows =>
    new CorruptedWindows(new ShuffledWindows(text, { ...shape, seed }), { ...options, seed });
  const copy = (batch: PairBatch): PairBatch => structuredClone(batch);

  it('training rows have no padding, and the decoder reads its targets one step later', () => {
    const source = train();
    for (let n = 0; n < 30; n++) {
      const { sourceMask, targetMask, target, targets, source: read } = source.next();
      expect([...sourceMask, ...targetMask].every((real) => real === 1)).toBe(true);
      expect(read.length).toBe(4 * source.contextLength);
      for (let row = 0; row < 4; row++) {
        const at = row * source.targetLength;
        expect(target[at]).toBe(pad);
        expect([...target.subarray(at + 1, at + source.targetLength)]).toEqual([
          ...targets.subarray(at, at + source.targetLength - 1),
        ]);
      }
    }
  });
  it('the same window is corrupted in another way in the next epoch', () => {
    const source = train();
    const windows = new ShuffledWindows(text, { ...shape, seed: 1 });
    const seen = new Map<string, string[]>();
    while (windows.epoch < 3) {
      const { tokens } = windows.next();
      const batch = source.next();
      for (let row = 0; row < 4; row++) {
        const window = tokens.subarray(row * shape.contextLength, (row + 1) * shape.contextLength).join();
        const at = row * source.targetLength;
        seen.set(window, [
          ...(seen.get(window) ?? []),
          batch.targets.subarray(at, at + source.targetLength).join(),
        ]);
      }
    }
    for (const targets of seen.values()) expect(new Set(targets).size).toBe(targets.length);
    expect([...seen.values()].every(({ length }) => length >= 2)).toBe(true);
  });
  it('goes on from a saved position, and refuses that of another corruption', () => {
    const source = train();
    for (let n = 0; n < 13; n++) source.next();
    const state = JSON.parse(JSON.stringify(source.state())) as ReturnType<CorruptedWindows['state']>;
    const expected = [copy(source.next()), copy(source.next())];
    const again = train();
    again.restore(state);
    expect([copy(again.next()), copy(again.next())]).toEqual(expected);
    expect(() => train(2).restore(state)).toThrow('corruptionSeed was 1 and is 2');
    const denser = new CorruptedWindows(new ShuffledWindows(text, { ...shape, seed: 1 }), {
      ...options,
      noiseDensity: 0.2,
      seed: 1,
    });
    expect(() => denser.restore(state)).toThrow('noiseDensity was 0.15 and is 0.2');
  });
  it('validation reads every window once, always the same, and pads what is short', () => {
    const held = new MemoryTokens(text.tokens.slice(0, 5 * shape.contextLength + 9), 'held');
    const sequence = new CorruptedSequence(new SequentialWindows(held, shape), options);
    const batches = Array.from(sequence, copy);
    expect(Array.from(sequence, copy)).toEqual(batches);
    expect(batches).toHaveLength(sequence.batchCount);
    const rows = batches.flatMap(({ source, targets }) =>
      [0, 1, 2, 3].map((row) => {
        const cut = (ids: Int32Array, length: number, fill: number): number[] =>
          [...ids.subarray(row * length, (row + 1) * length)].filter((id) => id !== fill);
        return [
          cut(source, sequence.contextLength, pad),
          cut(targets, sequence.targetLength, ignoredTarget),
        ] as const;
      }),
    );
    const texts = rows
      .filter(([source]) => source.length > 0)
      .map(([source, target]) => repaired(source, target));
    // The last token of a text is only ever a target of windows.
    expect(texts.flat()).toEqual([...held.tokens.subarray(0, -1)]);
    expect(sequence.targetCount).toBe(rows.reduce((sum, [, target]) => sum + target.length, 0));
    expect(rows.filter(([source]) => source.length === 0)).toHaveLength(2);
  });
  it('refuses a window with more spans than sentinels', () => {
    const few = { ...options, sentinels: sentinels.slice(0, 1), seed: 1 };
    expect(() => new CorruptedWindows(new ShuffledWindows(text, { ...shape, seed: 1 }), few)).toThrow(
      /2 spans of \d+ tokens need as many sentinels, but the tokenizer has 1/,
    );
  });
});
