/**
 * Writes safetensors files.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { replaceFile } from '../atomic-file.js';
import { HashingWriter, type FileDigest } from '../hashing-file.js';
import { explain, systemCode } from '../system-error.js';
import { bytesOf, type NamedTensor, type PlannedTensor, type StoredArray } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { checkData, planFile } from './header.js';

/** Bytes of a tensor handed on at once: a view of more than 4 GiB cannot exist. */
const SLAB = 1 << 30;

/** Options of {@link writeSafetensors}. */
export interface WriteOptions {
  /** Free text for `__metadata__`, such as `{ format: 'pt' }` which Hugging Face asks for. */
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string>;
  /** Path for messages. */
  readonly file?: string;
  /** Bytes that the data begins on a multiple of, in the order given; the reference implementation's 8 and order when absent. */
  readonly alignment?: number;
  /** Called after each tensor with the bytes of data written so far. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * Streams tensors into an open file from its start, hashing on the way. The data is written from the given views; it
 * may exceed 4 GiB and must not change until the promise resolves. Data of a {@link PlannedTensor} is asked for when its
 * turn comes, so that a file larger than memory can be written. The bytes equal those of the reference implementation.
 * The file is neither synced nor closed.
 *
 * @throws SafetensorsError `tensor`, before a byte is written unless planned data is not what was planned; `write` when
 *   the system fails. What a planned tensor throws comes through as it is.
 */
export async function writeSafetensors(
  handle: FileHandle,
  tensors: Iterable<NamedTensor | PlannedTensor>,
  { metadata = {}, file = 'safetensors file', alignment, onProgress }: WriteOptions = {},
): Promise<FileDigest> {
  const entries: Iterable<[string, string]> =
    metadata instanceof Map ? (metadata as ReadonlyMap<string, string>) : Object.entries(metadata);
  const plan = planFile(tensors, entries, file, alignment);
  for (const tensor of plan.tensors) {
    if (typeof tensor.data !== 'function') checkData(tensor, tensor.data, file);
  }
  const writer = new HashingWriter(handle);
  await writing(file, writer.write(plan.head));
  let written = 0;
  for (const tensor of plan.tensors) {
    const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
    checkData(tensor, data, file);
    await writing(file, writeSlabs(writer, data));
    onProgress?.((written += data.byteLength));
  }
  return writing(file, writer.finish());
}

async function writeSlabs(writer: HashingWriter, data: StoredArray): Promise<void> {
  for (let begin = 0; begin < data.byteLength; begin += SLAB) {
    await writer.write(bytesOf(data, begin, Math.min(begin + SLAB, data.byteLength)));
  }
}

async function writing<Result>(file: string, work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    throw new SafetensorsError('write', file, `cannot write: ${explain(error)}`, { cause: error });
  }
}

/**
 * Saves tensors as a file, which appears whole or not at all: whoever reads an older file of this name keeps it.
 *
 * @example
 * ```ts
 * await saveSafetensors('model.safetensors', [
 *   { name: 'embedding', dtype: 'F32', shape: [256, 64], data: new Float32Array(256 * 64) },
 * ]);
 * ```
 * @throws SafetensorsError
 */
export async function saveSafetensors(
  path: string,
  tensors: Iterable<NamedTensor | PlannedTensor>,
  options: Omit<WriteOptions, 'file'> = {},
): Promise<FileDigest> {
  try {
    return await replaceFile(path, (handle) => writeSafetensors(handle, tensors, { ...options, file: path }));
  } catch (error) {
    if (error instanceof SafetensorsError || systemCode(error) === undefined) throw error;
    throw new SafetensorsError('write', path, `cannot write: ${explain(error)}`, { cause: error });
  }
}
