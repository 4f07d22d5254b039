/**
 * Numbers behind the bits of the float types that JavaScript has no array for.
 * @module
 */
import type { StoredArray, StoredDType } from './dtypes.js';

/** Float types that {@link decodeFloats} turns into float32 exactly. */
export const decodableDTypes = [
  'F32',
  'F16',
  'BF16',
  'F8_E4M3',
  'F8_E5M2',
  'F8_E8M0',
] as const satisfies StoredDType[];

/** One of {@link decodableDTypes}. */
export type DecodableDType = (typeof decodableDTypes)[number];

/**
 * The float32 values of stored floats, exactly: every such type is a subset of float32. NaN stays NaN, infinities and
 * subnormals are kept. `F8_E4M3` is the OCP type without infinities, whose only NaNs are 0x7F and 0xFF.
 *
 * @param into where to put them, of the same length; a new array when absent.
 * @throws RangeError if the lengths differ.
 */
export function decodeFloats(
  dtype: DecodableDType,
  data: StoredArray,
  into: Float32Array = new Float32Array(data.length),
): Float32Array {
  if (into.length !== data.length)
    throw new RangeError(`${data.length} ${dtype} elements do not go into ${into.length} floats`);
  if (dtype === 'F32') {
    into.set(data as Float32Array);
    return into;
  }
  const source = data as Uint16Array | Uint8Array;
  if (dtype === 'BF16') {
    const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
    for (let i = 0; i < source.length; i++) bits[i] = source[i] << 16;
    return into;
  }
  const table = tableOf(dtype);
  for (let i = 0; i < source.length; i++) into[i] = table[source[i]]!;
  return into;
}

const tables = new Map<DecodableDType, Float32Array>();

function tableOf(dtype: 'F16' | 'F8_E4M3' | 'F8_E5M2' | 'F8_E8M0'): Float32Array {
  let table = tables.get(dtype);
  if (!table) {
    const values = { F16: half, F8_E5M2: (bits: number) => half(bits << 8), F8_E4M3: e4m3, F8_E8M0: e8m0 }[
      dtype
    ];
    table = Float32Array.from({ length: dtype === 'F16' ? 1 << 16 : 1 << 8 }, (_, bits) => values(bits));
    tables.set(dtype, table);
  }
  return table;
}

/** IEEE binary16: 5 bits of exponent, 10 of fraction. Its upper byte alone is E5M2. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

function e4m3(bits: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 0xf;
  const fraction = bits & 7;
  if (exponent === 0xf && fraction === 7) return NaN;
  return exponent === 0 ? sign * fraction * 2 ** -9 : sign * (8 + fraction) * 2 ** (exponent - 10);
}

/** A power of two alone: the scale of a block. */
function e8m0(bits: number): number {
  return bits === 0xff ? NaN : 2 ** (bits - 127);
}
