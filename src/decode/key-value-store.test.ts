import { describe, expect, test } from 'vitest';
import { KeyValueStore } from './key-value-store.js';

const sizes = [{ key: { heads: 2, size: 3 }, value: { heads: 1, size: 2 } }];
const batch = 2;

/** Numbers of a pass that say where they belong: text, head, token of the text, feature. */
function kept(store: KeyValueStore, time: number): Record<string, Float32Array> {
  const part = (heads: number, size: number): Float32Array =>
    Float32Array.from({ length: batch * heads * time * size }, (_, i) => {
      const feature = i % size;
      const token = Math.floor(i / size) % time;
      const head = Math.floor(i / (size * time)) % heads;
      const text = Math.floor(i / (size * time * heads));
      return 1000 * (text + 1) + 100 * (head + 1) + 10 * (store.lengths[text] + token) + feature;
    });
  return { 'cache.0.key': part(2, 3), 'cache.0.value': part(1, 2) };
}

/** What the store has in the slots in use of one text: by part, head and slot. */
function contents(store: KeyValueStore, text: number): number[] {
  const read = (name: string, heads: number, size: number): number[] => {
    const data = store.feeds[name] as Float32Array;
    return Array.from({ length: heads }, (_, head) => {
      const start = (text * heads + head) * store.capacity * size;
      return Array.from(data.slice(start, start + store.lengths[text] * size));
    }).flat();
  };
  return [...read('cache.0.key', 2, 3), ...read('cache.0.value', 1, 2)];
}

const expected = (text: number, length: number): number[] =>
  [
    { heads: 2, size: 3 },
    { heads: 1, size: 2 },
  ].flatMap(({ heads, size }) =>
    Array.from({ length: heads }, (_, head) =>
      Array.from({ length }, (__, token) =>
        Array.from(
          { length: size },
          (___, feature) => 1000 * (text + 1) + 100 * (head + 1) + 10 * token + feature,
        ),
      ),
    ).flat(2),
  );

function filled(): KeyValueStore {
  const store = new KeyValueStore(sizes, batch, 4);
  store.append(kept(store, 3), 3, [3, 1]);
  store.append(kept(store, 1), 1, [0, 1]);
  return store;
}

describe('a store', () => {
  test('puts the tokens of a pass behind those of their texts', () => {
    const store = filled();
    expect([...store.lengths]).toEqual([3, 2]);
    expect([0, 1].map((text) => contents(store, text))).toEqual([expected(0, 3), expected(1, 2)]);
  });

  test('keeps everything when it grows', () => {
    const store = filled();
    store.grow(7);
    store.append(kept(store, 2), 2, [2, 2]);
    expect([0, 1].map((text) => contents(store, text))).toEqual([expected(0, 5), expected(1, 4)]);
  });

  test('lets texts go on from others', () => {
    const store = filled();
    store.select([1, 0]);
    expect([0, 1].map((text) => contents(store, text))).toEqual([expected(1, 2), expected(0, 3)]);
    store.select([1, 1]);
    expect([0, 1].map((text) => contents(store, text))).toEqual([expected(0, 3), expected(0, 3)]);
  });

  test('has nothing left of a text that was cleared, and everything of the others', () => {
    const store = filled();
    store.clear(0);
    expect([...store.lengths]).toEqual([0, 2]);
    for (const [name, share] of [
      ['cache.0.key', 24],
      ['cache.0.value', 8],
    ] as const)
      expect(store.feeds[name].subarray(0, share).every((number) => number === 0)).toBe(true);
    expect(contents(store, 1)).toEqual(expected(1, 2));
  });

  test('refuses what has no slot, before anything is written', () => {
    const store = filled();
    expect(() => store.append(kept(store, 2), 2, [2, 1])).toThrow('text 0 has 5 tokens for 4 slots');
    expect(contents(store, 1)).toEqual(expected(1, 2));
  });
});
