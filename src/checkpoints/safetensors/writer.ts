/**
 * Writes safetensors files.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { replaceFile } from '../atomic-file.js';
import { HashingWriter, type FileDigest } from '../hashing-file.js';
import { explain } from '../system-error.js';
import { bytesOf, type NamedTensor } from './dtypes.js';
import { SafetensorsError } from './errors.js';
import { planFile } from './header.js';

/** Bytes of a tensor handed on at once: a view of more than 4 GiB cannot exist. */
const SLAB = 1 << 30;

/** Options of {@link writeSafetensors}. */
export interface WriteOptions {
  /** Free text for `__metadata__`, such as `{ format: 'pt' }` which Hugging Face asks for. */
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string>;
  /** Path for messages. */
  readonly file?: string;
}

/**
 * Streams tensors into an open file from its start, hashing on the way. The data is written from the given views; it
 * may exceed 4 GiB and must not change until the promise resolves. The bytes equal those of the reference
 * implementation. The file is neither synced nor closed.
 *
 * @throws SafetensorsError `tensor` before a byte is written, `write` when the system fails.
 */
export async function writeSafetensors(
  handle: FileHandle,
  tensors: Iterable<NamedTensor>,
  { metadata = {}, file = 'safetensors file' }: WriteOptions = {},
): Promise<FileDigest> {
  const entries: Iterable<[string, string]> =
    metadata instanceof Map ? (metadata as ReadonlyMap<string, string>) : Object.entries(metadata);
  const plan = planFile(tensors, entries, file);
  const writer = new HashingWriter(handle);
  try {
    await writer.write(plan.head);
    for (const { data } of plan.tensors) {
      for (let begin = 0; begin < data.byteLength; begin += SLAB) {
        await writer.write(bytesOf(data, begin, Math.min(begin + SLAB, data.byteLength)));
      }
    }
    return await writer.finish();
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
  tensors: Iterable<NamedTensor>,
  { metadata = {} }: Pick<WriteOptions, 'metadata'> = {},
): Promise<FileDigest> {
  try {
    return await replaceFile(path, (handle) => writeSafetensors(handle, tensors, { metadata, file: path }));
  } catch (error) {
    if (error instanceof SafetensorsError) throw error;
    throw new SafetensorsError('write', path, `cannot write: ${explain(error)}`, { cause: error });
  }
}
