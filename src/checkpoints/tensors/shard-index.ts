/**
 * `model.safetensors.index.json`: which shard holds which tensor, as Hugging Face writes it.
 *
 * The names in it come from strangers. A shard is a plain file name of the folder: no path, no address, no two names
 * that a file system which ignores case would take for one file.
 * @module
 */
import { isUtf8 } from 'node:buffer';
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { quote, SafetensorsError } from '../safetensors/errors.js';
import { Scanner } from '../safetensors/scanner.js';
import { explain } from '../system-error.js';

/** Name of an index in its folder. */
export const INDEX_FILE = 'model.safetensors.index.json';

/** Bytes of the longest index that is read: about two million tensors. */
const MAX_INDEX_BYTES = 200_000_000;

/** Shards of the largest checkpoint that is opened. */
export const MAX_SHARDS = 10_000;

/** What an index says. */
export interface ShardIndex {
  /** File name of the shard of every tensor. */
  readonly shardOf: ReadonlyMap<string, string>;
  /** File names of all shards, in order of their first tensor. */
  readonly shards: readonly string[];
  /** Bytes of all tensors; undefined where the index does not say. */
  readonly totalSize: number | undefined;
}

/**
 * Reads and checks an index; shards are not looked at.
 * @param json the text of the file.
 * @param file path for messages.
 * @throws SafetensorsError `index`, `duplicate`, or `shard` for a name that is no file name.
 */
export function parseShardIndex(json: Uint8Array, file: string): ShardIndex {
  if (!isUtf8(json)) throw new SafetensorsError('utf8', file, 'the index is not UTF-8');
  const scanner = new Scanner(json, file, 'index', 'index');
  const names = new ShardNames(file);
  const shardOf = new Map<string, string>();
  let hasMap = false;
  let totalSize: number | undefined;
  scanner.object('the index', 'index', (key) => {
    if (key === 'weight_map') {
      hasMap = true;
      scanner.object('weight_map', 'index', (tensor) => {
        const what = `weight_map ${quote(tensor)}`;
        shardOf.set(tensor, names.add(scanner.string(what, 'index'), what));
      });
    } else if (key === 'metadata') {
      scanner.object('metadata', 'index', (field) => {
        const value = scanner.scalar(`metadata ${quote(field)}`, 'index');
        if (field === 'total_size') totalSize = checkSize(value, scanner);
      });
    } else
      scanner.fail('index', `the index has the unknown key ${quote(key)}; known are metadata, weight_map`);
  });
  scanner.end();
  if (!hasMap) scanner.fail('index', 'the index has no weight_map');
  return { shardOf, shards: names.all, totalSize };
}

function checkSize(value: string | number | boolean | null, scanner: Scanner): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  return scanner.fail(
    'index',
    `metadata total_size must be a whole number of bytes, not ${quote(String(value))}`,
  );
}

/** File names that were checked once. A name that occurs a million times is one string. */
class ShardNames {
  readonly all: string[] = [];
  private readonly known = new Map<string, string>();
  private readonly folded = new Map<string, string>();

  constructor(private readonly file: string) {}

  add(name: string, what: string): string {
    const known = this.known.get(name);
    if (known !== undefined) return known;
    const fail = (code: 'index' | 'shard', reason: string): never => {
      throw new SafetensorsError(code, this.file, reason);
    };
    if (!isFileName(name))
      fail(
        'shard',
        `${what} names the shard ${quote(name)}, which is not the name of a .safetensors file in this folder`,
      );
    const fold = name.normalize('NFC').toLowerCase();
    const other = this.folded.get(fold);
    if (other !== undefined)
      fail('shard', `the shards ${quote(other)} and ${quote(name)} are one file where case does not count`);
    if (this.all.length === MAX_SHARDS) fail('index', `the index has more than ${MAX_SHARDS} shards`);
    this.folded.set(fold, name);
    this.known.set(name, name);
    this.all.push(name);
    return name;
  }
}

/** Letters of any script, digits and a few signs: neither a path nor an address. */
function isFileName(name: string): boolean {
  return name.length <= 255 && /^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_+=@ .-]*\.safetensors$/u.test(name);
}

/**
 * Reads an index from disk.
 * @throws SafetensorsError
 */
export async function readShardIndex(file: string): Promise<ShardIndex> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    throw new SafetensorsError('open', file, `cannot open: ${explain(error)}`, { cause: error });
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new SafetensorsError('open', file, 'is not a regular file');
    if (stat.size > MAX_INDEX_BYTES)
      throw new SafetensorsError(
        'index',
        file,
        `has ${stat.size} bytes; at most ${MAX_INDEX_BYTES} are read`,
      );
    return parseShardIndex(await handle.readFile(), file);
  } catch (error) {
    if (error instanceof SafetensorsError) throw error;
    throw new SafetensorsError('read', file, `cannot read: ${explain(error)}`, { cause: error });
  } finally {
    await handle.close();
  }
}
