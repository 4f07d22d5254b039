/**
 * Tensors of any element type as float32.
 * @module
 */
import { decodableDTypes, decodeFloats, type DecodableDType } from '../safetensors/decode.js';
import { elementsOf, type StoredArray, type StoredDType, type TensorInfo } from '../safetensors/dtypes.js';
import { quote, SafetensorsError } from '../safetensors/errors.js';
import type { TensorSource } from './source.js';

/** Elements that are converted at a time, so that the stored form of a large tensor is never whole in memory. */
const PIECE = 4 << 20;

const decodable = new Set<string>(decodableDTypes);
/** 64-bit types come as bigints. */
const countable = new Set<StoredDType>(['BOOL', 'U8', 'I8', 'U16', 'I16', 'U32', 'I32', 'U64', 'I64']);

/** Options of {@link readFloats}. */
export interface ReadFloatsOptions {
  /** Only the rows `[begin, end)` of the first axis, such as one expert of a bank `[experts, …]`. */
  readonly rows?: readonly [begin: number, end: number];
  /** Where to put the numbers, exactly as many as are read. After an error its content is undefined. */
  readonly into?: Float32Array;
  /** Whether integers and truth values may be read too; floats alone by default. */
  readonly integers?: boolean;
}

/**
 * Reads a tensor as float32. F32, F16, BF16 and the 8-bit floats come exactly; F64 (and integers, where allowed) is
 * rounded to nearest even.
 *
 * @throws SafetensorsError `convert` for an element type that is no float; else what {@link TensorSource.read} throws.
 */
export async function readFloats(
  source: TensorSource,
  name: string,
  { rows, into, integers = false }: ReadFloatsOptions = {},
): Promise<Float32Array> {
  const info = source.tensors.get(name);
  const whole = rows ? { rows } : {};
  // The source knows best how to say that there is no such tensor.
  if (!info) return (await source.read(name)) as Float32Array;
  if (info.dtype === 'F32')
    return (await source.read(name, { ...whole, ...(into ? { into } : {}) })) as Float32Array;
  const convert = converter(info, integers, source.location);
  const [height = 1, ...rest] = info.shape;
  const [begin, end] = rows ?? [0, height];
  const width = elementsOf(rest);
  const rowsAtOnce = Math.max(1, Math.floor(PIECE / Math.max(1, width)));
  const isRange = Number.isInteger(begin) && Number.isInteger(end) && begin >= 0 && end <= height;
  // What is no range is refused by the source.
  if (info.shape.length === 0 || end - begin <= rowsAtOnce || !isRange) {
    const stored = await source.read(name, whole);
    const target = into ?? new Float32Array(stored.length);
    checkLength(target, stored.length, info, source.location);
    convert(stored, target);
    return target;
  }
  const length = (end - begin) * width;
  const target = into ?? allocate(length, info, source.location);
  checkLength(target, length, info, source.location);
  for (let row = begin; row < end; row += rowsAtOnce) {
    const last = Math.min(end, row + rowsAtOnce);
    const stored = await source.read(name, { rows: [row, last] });
    convert(stored, target.subarray((row - begin) * width, (last - begin) * width));
  }
  return target;
}

function converter(
  { name, dtype }: TensorInfo,
  integers: boolean,
  location: string,
): (stored: StoredArray, into: Float32Array) => void {
  if (decodable.has(dtype)) return (stored, into) => void decodeFloats(dtype as DecodableDType, stored, into);
  if (dtype === 'F64') return (stored, into) => into.set(stored as Float64Array);
  if (integers && countable.has(dtype))
    return (stored, into) => {
      for (let i = 0; i < into.length; i++) into[i] = Number(stored[i]);
    };
  const kind = countable.has(dtype) ? 'integers, where floats are wanted' : 'of a type that is not decoded';
  throw new SafetensorsError('convert', location, `tensor ${quote(name)} is ${dtype}: ${kind}`);
}

function allocate(length: number, { name }: TensorInfo, location: string): Float32Array {
  try {
    return new Float32Array(length);
  } catch (error) {
    throw new SafetensorsError(
      'memory',
      location,
      `tensor ${quote(name)} of ${length} elements does not fit into a Float32Array; read it by rows`,
      { cause: error },
    );
  }
}

function checkLength(into: Float32Array, length: number, { name }: TensorInfo, location: string): void {
  if (into.length !== length)
    throw new SafetensorsError(
      'target',
      location,
      `tensor ${quote(name)} takes a Float32Array of ${length} elements, not of ${into.length}`,
    );
}
