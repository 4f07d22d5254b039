import { expect, test } from 'vitest';
import { FlatMemory } from './flat-memory.js';
import { compileWidening, halfBits } from './widen.js';

/** The value of a binary16, by its definition. */
function half(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const magnitude =
    exponent === 31
      ? fraction
        ? NaN
        : Infinity
      : exponent === 0
        ? fraction * 2 ** -24
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

const all = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);

/** All 65,536 numbers and three more, over each other as tightly as is allowed. */
function widened(type: 'BF16' | 'F16', count: number): Uint32Array {
  const memory = FlatMemory.reserve(count * 2).memory!;
  const source = new Uint16Array(memory.buffer, 2 * count, count);
  for (let i = 0; i < count; i++) source[i] = all[i % all.length];
  compileWidening(memory)[type](2 * count, 0, count);
  return new Uint32Array(memory.buffer, 0, count).slice();
}

test.each([65_536, 65_539, 7, 0])('every bfloat16, %d of them', (count) => {
  expect(widened('BF16', count)).toEqual(Uint32Array.from({ length: count }, (_, i) => (i << 16) >>> 0));
});

test.each([65_536, 65_539, 7])('every binary16, %d of them', (count) => {
  const bits = widened('F16', count);
  const values = new Float32Array(bits.buffer);
  expect(values).toEqual(Float32Array.from({ length: count }, (_, i) => half(i % (1 << 16))));
  // Signs of zeros and the payloads of NaNs are the same in both ways of computing them.
  expect(bits).toEqual(Uint32Array.from({ length: count }, (_, i) => halfBits(i % (1 << 16)) >>> 0));
  if (count > 0x7e01) expect(bits[0x7e01]).toBe(0x7fc02000);
  if (count > 0x8000) expect(bits[0x8000]).toBe(0x80000000);
});
