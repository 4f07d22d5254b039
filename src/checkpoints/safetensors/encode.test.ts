import { expect, it } from 'vitest';
import { decodeFloats, encodeFloats } from './index.js';

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

it.each(['F16', 'BF16'] as const)('%s: every pattern is what its own value is encoded to', (dtype) => {
  const patterns = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
  const values = decodeFloats(dtype, patterns);
  const again = encodeFloats(dtype, values);
  for (let bits = 0; bits < patterns.length; bits++) {
    if (Number.isNaN(values[bits]))
      expect(decodeFloats(dtype, again.subarray(bits, bits + 1) as Uint16Array)[0]).toBeNaN();
    else if (again[bits] !== bits) expect([bits, again[bits]]).toEqual([bits, bits]);
  }
});

it.each(['F16', 'BF16'] as const)(
  '%s: between two neighbours the nearer wins, and the even one of a tie',
  (dtype) => {
    const top = dtype === 'F16' ? 0x7bff : 0x7f7f;
    const float = (bits: number): number => decodeFloats(dtype, Uint16Array.of(bits))[0];
    for (const sign of [0, 0x8000]) {
      for (let bits = 0; bits < top; bits++) {
        const [low, high] = [float(bits | sign), float((bits + 1) | sign)];
        // Exact in float32: both have at most 11 bits of fraction.
        const middle = (low + high) / 2;
        const step = new Float32Array(
          new Uint32Array([bitsOf(middle) - 1, bitsOf(middle), bitsOf(middle) + 1]).buffer,
        );
        const [below, tie, above] = encodeFloats(dtype, step) as Uint16Array;
        const even = bits % 2 === 0 ? bits : bits + 1;
        const expected = [bits | sign, even | sign, (bits + 1) | sign];
        if (below !== expected[0] || tie !== expected[1] || above !== expected[2])
          expect([bits, below, tie, above]).toEqual([bits, ...expected]);
      }
    }
  },
);

it('what is too large becomes an infinity, what is too small a zero; signs stay', () => {
  const values = Float32Array.of(
    65519.996,
    65520,
    -65520,
    Infinity,
    -Infinity,
    NaN,
    2 ** -25,
    -(2 ** -25),
    2.99e-8,
    -0,
  );
  expect([...(encodeFloats('F16', values) as Uint16Array)]).toEqual([
    0x7bff, 0x7c00, 0xfc00, 0x7c00, 0xfc00, 0x7e00, 0, 0x8000, 1, 0x8000,
  ]);
  const wide = Float32Array.of(3.4028234e38, -3.4028234e38, NaN, 1e-45, -Infinity);
  expect([...(encodeFloats('BF16', wide) as Uint16Array)]).toEqual([0x7f80, 0xff80, 0x7fc0, 0, 0xff80]);
});

it('a NaN whose fraction lies in the lower half stays one', () => {
  const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xff800001).buffer);
  expect([...(encodeFloats('BF16', nan) as Uint16Array)]).toEqual([0x7fc0, 0xffc0]);
  expect([...(encodeFloats('F16', nan) as Uint16Array)]).toEqual([0x7e00, 0xfe00]);
});

it('F64 and F32 keep the numbers', () => {
  const values = Float32Array.of(0.1, -0);
  expect(encodeFloats('F64', values)).toEqual(Float64Array.of(Math.fround(0.1), -0));
  expect(encodeFloats('F32', values)).toBe(values);
});
