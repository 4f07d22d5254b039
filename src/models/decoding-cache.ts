/**
 * What a decoder keeps of a text while it writes it: keys and values of every block, in slots that its caller owns.
 * @module
 */
import { add, cast, input, less, minimum, range, reshape, type DType, type Tensor } from '../graph/index.js';
import type { CacheEntry, CacheSizes } from '../nn/index.js';

/**
 * The tokens before those of a pass. Sequence b of the batch has its tokens in slots 0 … `lengths[b]` − 1, and those of
 * the pass follow at positions `lengths[b]` …, so that sequences of any lengths go on together.
 */
export interface DecodingCache {
  /** One a block, parts of `[batch, heads, capacity, size]`. */
  readonly entries: readonly CacheEntry[];
  /** Int32 `[batch]`: slots in use. */
  readonly lengths: Tensor;
}

/** A cache to go on from; or `start`, where texts begin and what later passes need is to be kept. */
export type CacheInput = DecodingCache | 'start';

/** Feeds of a cache by name with their shapes: `cache.0.key` …, without `cache.lengths`. */
export function cacheShapes(
  layers: readonly CacheSizes[],
  batch: number,
  capacity: number,
): ReadonlyMap<string, readonly [number, number, number, number]> {
  return new Map(
    layers.flatMap((parts, layer) =>
      Object.entries(parts).map(
        ([part, { heads, size }]) => [`cache.${layer}.${part}`, [batch, heads, capacity, size]] as const,
      ),
    ),
  );
}

/**
 * Fed tensors of a cache: those of {@link cacheShapes}, and `cache.lengths`.
 * @param layers of a model: its `cacheSizes`
 * @param capacity slots a sequence
 */
export function cacheInputs(
  layers: readonly CacheSizes[],
  batch: number,
  capacity: number,
  dtype: DType = 'float32',
): DecodingCache {
  const entries = layers.map((parts, layer) =>
    Object.fromEntries(
      Object.entries(parts).map(([part, { heads, size }]) => [
        part,
        input(`cache.${layer}.${part}`, dtype, [batch, heads, capacity, size]),
      ]),
    ),
  );
  return { entries, lengths: input('cache.lengths', 'int32', [batch]) };
}

/** What a pass kept, by the names of the feeds into whose next free slots it goes. */
export function cacheOutputs(entries: readonly CacheEntry[]): Record<string, Tensor> {
  return Object.fromEntries(
    entries.flatMap((entry, layer) =>
      Object.entries(entry).map(([part, tensor]) => [`cache.${layer}.${part}`, tensor]),
    ),
  );
}

/** Int64 `[batch, time]`: where the tokens of a pass stand. Padding may lie beyond the last position, and gets that. */
export function positionsAfter({ lengths }: DecodingCache, time: number, windowLength: number): Tensor {
  const positions = add(reshape(cast(lengths, 'int64'), [-1, 1]), reshape(range(time), [1, time]));
  return minimum(positions, windowLength - 1);
}

/** Float `[batch, capacity]`: 1 for slots in use. */
export function usedSlots({ lengths }: DecodingCache, capacity: number, dtype: DType): Tensor {
  const used = less(reshape(range(capacity), [1, capacity]), reshape(cast(lengths, 'int64'), [-1, 1]));
  return cast(used, dtype);
}

/** Slots a sequence. */
export function capacityOf({ entries }: DecodingCache): number {
  return Object.values(entries[0])[0].shape[2] as number;
}
