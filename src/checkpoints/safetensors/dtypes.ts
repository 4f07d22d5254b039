/**
 * Element types of safetensors, and the typed arrays that hold them.
 * @module
 */

/**
 * Every element type of the format. The order is that of the reference implementation, which decides the order of
 * tensors in a file: wider types first, so that every tensor is aligned to its element.
 *
 * Types that JavaScript has no array for rest as raw bits: `F16` and `BF16` in a `Uint16Array`; `BOOL` and all types
 * of 8 bits and fewer in a `Uint8Array`; `C64` as pairs in a `Float32Array`.
 */
export const storedDTypes = {
  BOOL: { bits: 8, array: Uint8Array },
  F4: { bits: 4, array: Uint8Array },
  F6_E2M3: { bits: 6, array: Uint8Array },
  F6_E3M2: { bits: 6, array: Uint8Array },
  U8: { bits: 8, array: Uint8Array },
  I8: { bits: 8, array: Int8Array },
  F8_E5M2: { bits: 8, array: Uint8Array },
  F8_E4M3: { bits: 8, array: Uint8Array },
  F8_E8M0: { bits: 8, array: Uint8Array },
  I16: { bits: 16, array: Int16Array },
  U16: { bits: 16, array: Uint16Array },
  F16: { bits: 16, array: Uint16Array },
  BF16: { bits: 16, array: Uint16Array },
  I32: { bits: 32, array: Int32Array },
  U32: { bits: 32, array: Uint32Array },
  F32: { bits: 32, array: Float32Array },
  C64: { bits: 64, array: Float32Array },
  F64: { bits: 64, array: Float64Array },
  I64: { bits: 64, array: BigInt64Array },
  U64: { bits: 64, array: BigUint64Array },
} as const;

/** Name of an element type, as the file spells it. */
export type StoredDType = keyof typeof storedDTypes;

/** Elements of one tensor at rest, in row-major order and the byte order of the machine (little-endian). */
export type StoredArray =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** What a file says of a tensor. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
}

/** A tensor with a name. `data` is a view and is never copied as a whole; it holds `shape` elements of `dtype`. */
export interface NamedTensor extends TensorInfo {
  readonly data: StoredArray;
}

/** A tensor whose data is asked for when its turn to be written comes, and may be dropped after. */
export interface PlannedTensor extends TensorInfo {
  readonly data: () => StoredArray | Promise<StoredArray>;
}

const names = new Set<string>(Object.keys(storedDTypes));

/** Whether a string names an element type. */
export function isStoredDType(name: string): name is StoredDType {
  return names.has(name);
}

const ranks = new Map(Object.keys(storedDTypes).map((name, rank) => [name as StoredDType, rank]));

/** Position of a type in {@link storedDTypes}. */
export function rankOf(dtype: StoredDType): number {
  return ranks.get(dtype)!;
}

/**
 * Number of elements of a shape; not a safe integer when it overflows. A product that passes 2⁶⁴ on its way to a zero
 * has overflowed, as in the reference implementation; a zero before that makes the tensor empty.
 */
export function elementsOf(shape: readonly number[]): number {
  let product = 1;
  for (const size of shape) {
    product *= size;
    if (product >= 2 ** 64) return Infinity;
  }
  return product;
}

/** Bytes `[begin, end)` of an array as a view. The range may lie anywhere in an array of any size. */
export function bytesOf(data: StoredArray, begin = 0, end = data.byteLength): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset + begin, end - begin);
}
