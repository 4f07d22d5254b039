/**
 * The file of weights beside an exported model.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import type { Port } from '../../runtime/index.js';
import type { ExternalData } from '../../runtime/index.js';
import { HashingWriter } from '../hashing-file.js';
import { bytesOf, elementsOf } from '../safetensors/dtypes.js';

/** Offsets are multiples of a page, so that a runtime can map the file into memory. */
const PAGE = 4096;
/** Smaller tensors lie at multiples of a cache line instead: a page each would be mostly holes. */
const LARGE = 1 << 20;
const LINE = 64;

/** A parameter in the file. */
export interface PlacedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

/** Where everything lies. */
export interface DataLayout {
  readonly parameters: readonly PlacedParameter[];
  /** Bytes of the file. */
  readonly bytes: number;
}

/** Lays float32 parameters one after another in the order given. */
export function layOut(parameters: Iterable<readonly [string, readonly number[]]>): DataLayout {
  const placed: PlacedParameter[] = [];
  let end = 0;
  for (const [name, shape] of parameters) {
    const length = 4 * elementsOf(shape);
    const unit = length >= LARGE ? PAGE : LINE;
    const offset = Math.ceil(end / unit) * unit;
    placed.push({ name, shape, offset, length });
    end = offset + length;
  }
  return { parameters: placed, bytes: end };
}

/** Places of the ONNX values that a parameter is fed as: itself, or the slices of its first axis. */
export function placesOf(
  { values, sliced }: Port,
  { offset, length }: PlacedParameter,
  location: string,
): readonly (readonly [value: string, place: ExternalData])[] {
  const each = sliced ? length / values.length : length;
  return values.map((value, i) => [value, { location, offset: offset + i * each, length: each }]);
}

/**
 * Writes all parameters. One matrix is in memory at a time: of parameters with more axes, such as banks of experts, one
 * slice of the first.
 * @param read a parameter, or a slice of its first axis.
 */
export async function writeData(
  handle: FileHandle,
  { parameters }: DataLayout,
  read: (name: string, slice: { readonly at?: number }) => Promise<Float32Array>,
  onProgress: (bytes: number) => void,
): Promise<void> {
  const writer = new HashingWriter(handle);
  let end = 0;
  for (const { name, shape, offset, length } of parameters) {
    await writer.write(new Uint8Array(offset - end));
    const slices = shape.length > 2 ? Array.from({ length: shape[0] }, (_, at) => ({ at })) : [{}];
    for (const slice of slices) {
      const values = await read(name, slice);
      if (values.byteLength * slices.length !== length)
        throw new RangeError(`${name} has ${values.length * slices.length} numbers, not ${length / 4}`);
      await writer.write(bytesOf(values));
    }
    end = offset + length;
    onProgress(end);
  }
  await writer.finish();
}
