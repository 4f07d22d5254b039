/**
 * A checkpoint in several files.
 * @module
 */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { quote, SafetensorsError, type SafetensorsErrorCode } from '../safetensors/errors.js';
import {
  SafetensorsFile,
  type ReadOptions,
  type StoredArray,
  type TensorExtent,
  type TensorInfo,
} from '../safetensors/index.js';
import { explain } from '../system-error.js';
import { INDEX_FILE, readShardIndex, type ShardIndex } from './shard-index.js';
import type { TensorSource } from './source.js';

/** Headers that are read at a time while a checkpoint is opened. */
const OPENED_TOGETHER = 8;

/** Names that one message lists. */
const LISTED = 5;

/**
 * Shards with their index. All headers are read and compared with the index when it is opened, so that a tensor which
 * is missing, doubled or unknown is found before the first is read; data is read by range.
 */
export class ShardedTensors implements TensorSource {
  private constructor(
    readonly location: string,
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    private readonly files: ReadonlyMap<string, SafetensorsFile>,
    private readonly shardOf: ReadonlyMap<string, string>,
  ) {}

  /**
   * Opens `model.safetensors.index.json` of a folder and its shards.
   * @throws SafetensorsError; all files are then closed.
   */
  static async open(folder: string): Promise<ShardedTensors> {
    const path = join(folder, INDEX_FILE);
    const index = await readShardIndex(path);
    const files = new Map<string, SafetensorsFile>();
    try {
      const roots = await allowedRoots(folder);
      for (let first = 0; first < index.shards.length; first += OPENED_TOGETHER) {
        const some = index.shards.slice(first, first + OPENED_TOGETHER);
        const opened = await Promise.allSettled(some.map((name) => openShard(folder, name, roots, path)));
        opened.forEach((result, i) => result.status === 'fulfilled' && files.set(some[i], result.value));
        for (const result of opened) if (result.status === 'rejected') throw result.reason;
      }
      return new ShardedTensors(folder, matchShards(index, files, path), files, index.shardOf);
    } catch (error) {
      await closeAll(files);
      if (error instanceof SafetensorsError) throw error;
      throw new SafetensorsError('open', path, `cannot open: ${explain(error)}`, { cause: error });
    }
  }

  async read(name: string, options?: ReadOptions): Promise<StoredArray> {
    const shard = this.shardOf.get(name);
    if (shard === undefined)
      throw new SafetensorsError('missing', this.location, `there is no tensor ${quote(name)}`);
    return this.files.get(shard)!.read(name, options);
  }

  extentOf(name: string): TensorExtent | undefined {
    const shard = this.shardOf.get(name);
    return shard === undefined ? undefined : this.files.get(shard)!.extentOf(name);
  }

  async close(): Promise<void> {
    await closeAll(this.files);
  }
}

async function closeAll(files: ReadonlyMap<string, SafetensorsFile>): Promise<void> {
  await Promise.all([...files.values()].map((file) => file.close()));
}

/**
 * Where links of a folder may lead: into the folder itself, or from a snapshot of Hugging Face's cache
 * (`snapshots/<revision>`) to the `blobs` beside it.
 */
async function allowedRoots(folder: string): Promise<readonly string[]> {
  const real = await realpath(folder);
  const parent = dirname(real);
  return basename(parent) === 'snapshots' ? [real, join(dirname(parent), 'blobs')] : [real];
}

async function openShard(
  folder: string,
  name: string,
  roots: readonly string[],
  index: string,
): Promise<SafetensorsFile> {
  const path = join(folder, name);
  const fail = (reason: string, cause?: unknown): never => {
    throw new SafetensorsError('shard', index, `the shard ${quote(name)} ${reason}`, { cause });
  };
  try {
    if ((await lstat(path)).isSymbolicLink()) {
      const real = await realpath(path);
      if (!roots.some((root) => real.startsWith(root + sep))) fail('is a link that leads out of the folder');
    }
  } catch (error) {
    if (error instanceof SafetensorsError) throw error;
    fail(`cannot be opened: ${explain(error)}`, error);
  }
  return SafetensorsFile.open(path);
}

/** Tensors in the order of shards and bytes, after index and shards have been found to say the same. */
function matchShards(
  { shardOf, totalSize }: ShardIndex,
  files: ReadonlyMap<string, SafetensorsFile>,
  index: string,
): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  const wrong: string[] = [];
  let bytes = 0;
  for (const [shard, file] of files) {
    for (const entry of file.tensors.values()) {
      const said = shardOf.get(entry.name);
      if (said === shard) tensors.set(entry.name, entry);
      else if (wrong.length <= LISTED)
        wrong.push(
          `${quote(shard)} holds ${quote(entry.name)}, which the index ${said === undefined ? 'does not list' : `places in ${quote(said)}`}`,
        );
      bytes += entry.end - entry.begin;
    }
  }
  for (const [name, shard] of shardOf) {
    if (wrong.length > LISTED) break;
    if (!tensors.has(name))
      wrong.push(`${quote(shard)} does not hold ${quote(name)}, which the index places there`);
  }
  const fail = (code: SafetensorsErrorCode, reason: string): never => {
    throw new SafetensorsError(code, index, reason);
  };
  if (wrong.length > 0)
    fail('shard', `${wrong.slice(0, LISTED).join('; ')}${wrong.length > LISTED ? '; and more' : ''}`);
  if (totalSize !== undefined && totalSize !== bytes)
    fail('index', `metadata total_size is ${totalSize}, but the tensors of its shards take ${bytes} bytes`);
  return tensors;
}
