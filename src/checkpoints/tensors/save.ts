/**
 * Writes checkpoints larger than memory.
 * @module
 */
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createSynced, replaceFile, syncFolder, temporaryName } from '../atomic-file.js';
import { bytesOfTensor } from '../safetensors/header.js';
import type { PlannedTensor } from '../safetensors/dtypes.js';
import { quote, SafetensorsError } from '../safetensors/errors.js';
import { writeSafetensors } from '../safetensors/writer.js';
import { explain, systemCode } from '../system-error.js';
import { isThere, WEIGHTS_FILE } from './open.js';
import { INDEX_FILE, MAX_SHARDS } from './shard-index.js';

/** What pieces that are read together begin on: the block of direct reads. */
export const PACK_ALIGNMENT = 4096;

/** What the names of tensors begin with that only fill files up. */
export const PADDING_PREFIX = 'padding.';

/** What a save has done so far. */
export interface SaveProgress {
  /** Bytes of tensors written. */
  readonly bytes: number;
  /** Bytes of all tensors. */
  readonly totalBytes: number;
  /** Shard that is being written, from 1. */
  readonly shard: number;
  readonly numShards: number;
}

/** Options of {@link saveTensors}. */
export interface SaveTensorsOptions {
  /** Most bytes of tensors in one file, 5·10⁹ by default as Hugging Face has it. One tensor alone may be larger. */
  readonly maxShardBytes?: number;
  /**
   * Tensors that are read together, such as those of one expert: each group lies in one piece that begins on a multiple of
   * 4,096 bytes, in files of their own after the others.
   */
  readonly groups?: readonly (readonly PlannedTensor[])[];
  /** Free text for every file, by default `{ format: 'pt' }`, which `transformers` asks for. */
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string>;
  /** Called after every tensor. */
  readonly onProgress?: (progress: SaveProgress) => void;
}

/**
 * Writes tensors into a folder that exists: as `model.safetensors`, or, where they take more than `maxShardBytes`, as
 * `model-00001-of-0000N.safetensors` with `model.safetensors.index.json`. The data of a tensor is asked for when its turn
 * comes, so that a checkpoint larger than memory is converted in the memory of its largest tensor. Tensors go to shards
 * in the order in which they are given; in a file they lie in the order of the reference implementation.
 *
 * All files are written and synced under temporary names and then renamed, the index last: until it is there the folder
 * holds no checkpoint. On failure everything is removed again; a killed process may leave files called `….tmp-…`, and
 * whole shards without an index, which the next save replaces. Use {@link createFolder} around it where other files
 * belong to the checkpoint.
 *
 * @throws SafetensorsError `exists` if the folder holds a checkpoint already, `tensor` if two tensors have one name, or
 *   the data is not what was planned; `write`. What a tensor's `data` throws comes through.
 */
export async function saveTensors(
  folder: string,
  tensors: readonly PlannedTensor[],
  { maxShardBytes = 5e9, groups = [], metadata = { format: 'pt' }, onProgress }: SaveTensorsOptions = {},
): Promise<void> {
  for (const name of [WEIGHTS_FILE, INDEX_FILE]) {
    if (await isThere(join(folder, name)))
      throw new SafetensorsError('exists', join(folder, name), 'is there already; nothing is overwritten');
  }
  const names = new Set<string>();
  const ordinary = shardTensors(
    tensors.map((tensor) => [tensor]),
    maxShardBytes,
    folder,
    names,
  );
  const aligned =
    groups.length > 0 ? shardTensors(padGroups(groups, folder), maxShardBytes, folder, names) : [];
  const shards = [...ordinary, ...aligned];
  if (shards.length > MAX_SHARDS)
    throw new SafetensorsError(
      'tensor',
      folder,
      `maxShardBytes ${maxShardBytes} makes more than ${MAX_SHARDS} shards`,
    );
  const totalBytes = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  const files = shards.map((_, i) => shardName(i, shards.length));
  const temporaries = files.map((name) => temporaryName(join(folder, name)));
  const renamed: string[] = [];
  try {
    let done = 0;
    for (const [i, shard] of shards.entries()) {
      const file = join(folder, files[i]);
      const report = (bytes: number): void =>
        onProgress?.({ bytes: done + bytes, totalBytes, shard: i + 1, numShards: shards.length });
      await createSynced(temporaries[i], (handle) =>
        writeSafetensors(handle, shard.tensors, {
          metadata,
          file,
          onProgress: report,
          ...(i >= ordinary.length ? { alignment: PACK_ALIGNMENT } : {}),
        }),
      );
      done += shard.bytes;
    }
    for (const [i, temporary] of temporaries.entries()) {
      const path = join(folder, files[i]);
      await rename(temporary, path);
      renamed.push(path);
    }
    await syncFolder(folder);
    if (shards.length > 1) {
      const text = indexText(shards, files, totalBytes);
      await replaceFile(join(folder, INDEX_FILE), (handle) => handle.writeFile(text));
    }
  } catch (error) {
    await Promise.all(
      [...temporaries, ...renamed].map((path) => rm(path, { force: true }).catch(() => undefined)),
    );
    if (systemCode(error) === undefined) throw error;
    throw new SafetensorsError('write', folder, `cannot write: ${explain(error)}`, { cause: error });
  }
}

interface Shard {
  readonly tensors: PlannedTensor[];
  bytes: number;
}

/** Groups in the order given, a new shard wherever the next would make the last too large. */
function shardTensors(
  groups: readonly (readonly PlannedTensor[])[],
  maxShardBytes: number,
  folder: string,
  names: Set<string>,
): readonly Shard[] {
  if (!(maxShardBytes > 0)) throw new RangeError(`maxShardBytes must be above 0, not ${maxShardBytes}`);
  const shards: Shard[] = [{ tensors: [], bytes: 0 }];
  for (const group of groups) {
    let bytes = 0;
    for (const tensor of group) {
      if (names.has(tensor.name))
        throw new SafetensorsError('tensor', folder, `the name ${quote(tensor.name)} is taken`);
      names.add(tensor.name);
      bytes += bytesOfTensor(tensor, folder);
    }
    let last = shards.at(-1)!;
    if (last.tensors.length > 0 && last.bytes + bytes > maxShardBytes)
      shards.push((last = { tensors: [], bytes: 0 }));
    last.tensors.push(...group);
    last.bytes += bytes;
  }
  return shards;
}

/** Fills each group up to whole blocks with a tensor of zeros that is no part of any model. */
function padGroups(
  groups: readonly (readonly PlannedTensor[])[],
  folder: string,
): readonly (readonly PlannedTensor[])[] {
  return groups.map((group, i) => {
    const bytes = group.reduce((sum, tensor) => sum + bytesOfTensor(tensor, folder), 0);
    const missing = Math.ceil(bytes / PACK_ALIGNMENT) * PACK_ALIGNMENT - bytes;
    if (missing === 0) return group;
    const data = (): Uint8Array => new Uint8Array(missing);
    return [...group, { name: `${PADDING_PREFIX}${i}`, dtype: 'U8', shape: [missing], data }];
  });
}

function shardName(index: number, count: number): string {
  const digits = (n: number): string => String(n).padStart(5, '0');
  return count === 1 ? WEIGHTS_FILE : `model-${digits(index + 1)}-of-${digits(count)}.safetensors`;
}

/** As `transformers` writes it: keys sorted, two spaces, a line end. */
function indexText(shards: readonly Shard[], names: readonly string[], totalBytes: number): string {
  const entries = shards.flatMap((shard, i) => shard.tensors.map(({ name }) => [name, names[i]] as const));
  // A tensor called __proto__ would vanish from an object literal, so lines are put together here.
  const lines = entries
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([name, shard]) => `    ${JSON.stringify(name)}: ${JSON.stringify(shard)}`);
  return `{\n  "metadata": {\n    "total_size": ${totalBytes}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`;
}
