/**
 * Float32 numbers as the narrower floats of a file.
 * @module
 */
import { decodeFloats } from './decode.js';
import type { StoredArray } from './dtypes.js';

/** Float types that {@link encodeFloats} writes. */
export const encodableDTypes = ['F64', 'F32', 'F16', 'BF16'] as const;

/** One of {@link encodableDTypes}. */
export type EncodableDType = (typeof encodableDTypes)[number];

/**
 * Stored form of float32 numbers, rounded to nearest, ties to even, as IEEE 754 and PyTorch do: what is above the
 * largest number of the type by half a step or more becomes an infinity, what is below the smallest becomes zero with its
 * sign. A NaN becomes the quiet NaN of its sign.
 */
export function encodeFloats(dtype: EncodableDType, values: Float32Array): StoredArray {
  switch (dtype) {
    case 'F32':
      return values;
    case 'F64':
      return Float64Array.from(values);
    case 'BF16':
      return encodeEach(values, brainFloat);
    case 'F16':
      return encodeEach(values, half);
  }
}

function encodeEach(values: Float32Array, encode: (bits: number) => number): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const encoded = new Uint16Array(bits.length);
  for (let i = 0; i < bits.length; i++) encoded[i] = encode(bits[i]);
  return encoded;
}

function brainFloat(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) & 0x8000) | 0x7fc0;
  // Half a step less one, and one more where the kept part is odd.
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function half(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  // 65520 is half a step above the largest half, 65504.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Subnormal: the fraction with its leading one, shifted to steps of 2⁻²⁴.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  return sign | (kept + (rest > middle || (rest === middle && (kept & 1) === 1) ? 1 : 0));
}

/** What a reader gets of float32 numbers that were stored as another type; the numbers themselves where that is F32. */
export function roundFloats(dtype: Exclude<EncodableDType, 'F64'>, values: Float32Array): Float32Array {
  return dtype === 'F32' ? values : decodeFloats(dtype, encodeFloats(dtype, values));
}
