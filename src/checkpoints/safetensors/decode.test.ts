import { expect, it } from 'vitest';
import { decodeFloats, type DecodableDType } from './decode.js';

/** The value of an IEEE-like float by its definition, in float64. */
function value(bits: number, exponentBits: number, fractionBits: number, hasInfinity: boolean): number {
  const sign = (bits >> (exponentBits + fractionBits)) & 1 ? -1 : 1;
  const exponent = (bits >> fractionBits) & ((1 << exponentBits) - 1);
  const fraction = (bits & ((1 << fractionBits) - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const top = exponent === (1 << exponentBits) - 1;
  if (top && hasInfinity) return fraction === 0 ? sign * Infinity : NaN;
  if (top && fraction === 1 - 2 ** -fractionBits) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

it.each([
  ['F16', 5, 10, true],
  ['BF16', 8, 7, true],
  ['F8_E5M2', 5, 2, true],
  ['F8_E4M3', 4, 3, false],
] as const)('15 %s decodes exactly for every pattern', (dtype, exponentBits, fractionBits, hasInfinity) => {
  const count = 2 ** (1 + exponentBits + fractionBits);
  const patterns = Array.from({ length: count }, (_, i) => i);
  const data = count > 256 ? Uint16Array.from(patterns) : Uint8Array.from(patterns);
  const decoded = decodeFloats(dtype, data);
  for (let bits = 0; bits < count; bits++) {
    const expected = value(bits, exponentBits, fractionBits, hasInfinity);
    if (!Object.is(decoded[bits], expected)) expect([bits, decoded[bits]]).toEqual([bits, expected]);
  }
});

it('15 F8_E8M0 is a power of two for every pattern', () => {
  const decoded = decodeFloats(
    'F8_E8M0',
    Uint8Array.from({ length: 256 }, (_, i) => i),
  );
  for (let bits = 0; bits < 255; bits++) expect(Math.log2(decoded[bits])).toBe(bits - 127);
  expect(decoded[255]).toBeNaN();
});

it('decodes into a view, and refuses one of another length', () => {
  const flat = new Float32Array(4);
  decodeFloats('BF16', Uint16Array.of(0x3f80, 0xc000), flat.subarray(1, 3));
  expect([...flat]).toEqual([0, 1, -2, 0]);
  expect([...decodeFloats('F32', Float32Array.of(0.1))]).toEqual([Math.fround(0.1)]);
  expect(() => decodeFloats('BF16' satisfies DecodableDType, new Uint16Array(3), flat)).toThrow(
    '3 BF16 elements do not go into 4 floats',
  );
});
