/**
 * Opens a compressed folder again and looks at all of it, before anyone relies on it.
 * @module
 */
import {
  bytesOf,
  openCheckpoint,
  quote,
  RestoringSource,
  type StoredArray,
  type TensorSource,
} from '../../checkpoints/index.js';
import { CompressionError } from './state.js';

/** What was seen. */
export interface Verified {
  /** Tensors that are bit for bit those of the original. */
  readonly equal: number;
  /** Tensors that come back under their original name and shape, with numbers that are finite. */
  readonly restored: number;
}

/**
 * Checks that a compressed folder opens, has every tensor of the original once, with its name, type and shape; that those
 * outside the compressed layers are bit for bit the same; and that every restored one is finite.
 *
 * @throws CompressionError naming the tensor.
 */
export async function verifyFolder(
  original: TensorSource,
  out: string,
  onProgress?: (done: number, total: number) => void,
): Promise<Verified> {
  const checkpoint = await openCheckpoint(out);
  const { source } = checkpoint;
  try {
    if (!(source instanceof RestoringSource)) throw new CompressionError(`${out}: is not compressed`);
    const total = original.tensors.size;
    if (source.tensors.size !== total)
      throw new CompressionError(`${out}: has ${source.tensors.size} tensors, the original ${total}`);
    let equal = 0;
    let restored = 0;
    for (const { name, dtype, shape } of original.tensors.values()) {
      const found = source.tensors.get(name);
      if (found?.dtype !== dtype || found.shape.join() !== shape.join())
        throw new CompressionError(`${out}: tensor ${quote(name)} does not come back as it was`);
      if (source.isRestored(name)) {
        await eachPart(source, name, shape, (part) => assertFinite(part, dtype, out, name));
        restored++;
      } else {
        const [before, after] = await Promise.all([original.read(name), source.read(name)]);
        if (Buffer.compare(bytesOf(before), bytesOf(after)) !== 0)
          throw new CompressionError(`${out}: tensor ${quote(name)} is not what it was`);
        equal++;
      }
      onProgress?.(equal + restored, total);
    }
    return { equal, restored };
  } finally {
    await checkpoint.close();
  }
}

/** Expert by expert where one tensor holds all of them. */
async function eachPart(
  source: TensorSource,
  name: string,
  shape: readonly number[],
  visit: (part: StoredArray) => void,
): Promise<void> {
  if (shape.length < 3) return visit(await source.read(name));
  for (let row = 0; row < shape[0]; row++) visit(await source.read(name, { rows: [row, row + 1] }));
}

/** Bits that are all set in infinities and NaNs, and in nothing else. */
const exponents = { F32: 0x7f800000, BF16: 0x7f80, F16: 0x7c00 };

function assertFinite(values: StoredArray, dtype: string, out: string, name: string): void {
  const mask = exponents[dtype as keyof typeof exponents];
  const bits = dtype === 'F32' ? new Uint32Array(values.buffer, values.byteOffset, values.length) : values;
  for (const value of bits as Uint32Array) {
    if ((value & mask) === mask)
      throw new CompressionError(`${out}: tensor ${quote(name)} comes back with numbers that are not finite`);
  }
}
