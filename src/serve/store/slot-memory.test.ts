import { expect, test } from 'vitest';
import { BLOCK, SlotMemory, wholeBlocks } from './slot-memory.js';

test('places start on blocks and do not overlap, in more memory than one WebAssembly memory has', () => {
  // 6 GB of address space; nothing is written, so next to no memory.
  const { slots, slotBytes, aligned } = new SlotMemory(320, 18_874_369);
  expect(aligned).toBe(true);
  expect(slotBytes).toBe(18_878_464);
  expect(new Set(slots.map(({ memory }) => memory)).size).toBe(2);
  const places = slots.map(({ data, memory }) => ({
    memory,
    start: data.byteOffset,
    end: data.byteOffset + data.byteLength,
  }));
  for (const [i, { memory, start, end }] of places.entries()) {
    expect(start % BLOCK).toBe(0);
    expect(end - start).toBe(slotBytes);
    const next = places[i + 1] as (typeof places)[number] | undefined;
    if (next?.memory === memory) expect(next?.start).toBe(end);
  }
});

test('a place larger than a memory is refused', () => {
  expect(() => new SlotMemory(1, 2 ** 32)).toThrow('larger than the 4293918720 that a place can be');
});

test('whole blocks', () => {
  expect([0, 1, 4096, 4097].map(wholeBlocks)).toEqual([0, 4096, 4096, 8192]);
});
