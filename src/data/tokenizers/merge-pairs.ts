/**
 * The merge loop of byte-pair encoding.
 * @module
 */
import { BinaryHeap } from './binary-heap.js';

/** Learnt pairs. */
export interface MergeTable {
  /** Size of the vocabulary. */
  readonly size: number;
  /** Rank of the pair `left · size + right`: 0 was learnt first. */
  readonly ranks: Map<number, number>;
  /** The id that the pair of each rank becomes. */
  readonly merged: readonly number[];
}

/** Positions in a heap entry `rank · positions + position`: both stay exact below 2^53. */
const positions = 2 ** 30;

/**
 * Merges the pairs of one word, lowest rank first and leftmost among equals, in O(n log n), so that a megabyte
 * without a space does not stall. Overwrites `ids`.
 */
export function mergePairs(table: MergeTable, ids: number[]): number[] {
  const count = ids.length;
  if (count < 2) return ids;
  const next = Int32Array.from({ length: count }, (_, index) => index + 1);
  const previous = Int32Array.from({ length: count }, (_, index) => index - 1);
  const heap = new BinaryHeap<number>((a, b) => a < b);
  const rankAt = (at: number): number | undefined =>
    next[at] < count ? table.ranks.get(ids[at] * table.size + ids[next[at]]) : undefined;
  const offer = (at: number): void => {
    const rank = rankAt(at);
    if (rank !== undefined) heap.push(rank * positions + at);
  };
  for (let at = 0; at < count - 1; at++) offer(at);
  for (let entry = heap.pop(); entry !== undefined; entry = heap.pop()) {
    const at = entry % positions;
    const rank = (entry - at) / positions;
    // The entry is stale if its left part is gone or has another right neighbour by now.
    if (ids[at] === -1 || rankAt(at) !== rank) continue;
    const right = next[at];
    ids[at] = table.merged[rank]!;
    ids[right] = -1;
    next[at] = next[right]!;
    if (next[at] < count) previous[next[at]] = at;
    if (previous[at] >= 0) offer(previous[at]);
    offer(at);
  }
  return ids.filter((id) => id !== -1);
}
