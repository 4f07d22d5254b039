/**
 * Typed arrays behind dtypes.
 * @module
 */
import type { DType } from '../graph/index.js';

/** Numbers of one tensor, in row-major order. A bool is a byte. */
export type TensorData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

const constructors = {
  float32: Float32Array,
  float64: Float64Array,
  int32: Int32Array,
  int64: BigInt64Array,
  bool: Uint8Array,
} as const;

/** A zeroed array for `length` elements of a dtype. */
export function allocate(dtype: DType, length: number): TensorData {
  return new constructors[dtype](length);
}

/** Whether an array has the element type of a dtype. */
export function holds(dtype: DType, data: TensorData): boolean {
  return data instanceof constructors[dtype];
}
