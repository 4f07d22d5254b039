/**
 * Writes pairs of source and target into the rows of a batch.
 * @module
 */
import { createBatch, ignoredTarget, type BatchShape, type PairBatch } from './batch.js';

/** Makes the arrays of a batch of pairs. @throws RangeError if a size is not a positive integer. */
export function createPairs({
  batchSize,
  contextLength,
  targetLength = contextLength,
}: BatchShape): PairBatch {
  const { tokens: source, mask: sourceMask } = createBatch({ batchSize, contextLength }, false);
  const target = createBatch({ batchSize, contextLength: targetLength }, false);
  return { source, sourceMask, target: target.tokens, targetMask: target.mask, targets: target.targets };
}

/**
 * Fills row `row`: the source; behind the start token the target without its last token; and the target itself as what
 * is to be said. Both are cut where the row ends. Without tokens the row is padding.
 */
export function fillPair(
  batch: PairBatch,
  batchSize: number,
  row: number,
  { source, target }: { readonly source: Int32Array; readonly target: Int32Array },
  { start, pad }: { readonly start: number; readonly pad: number },
): void {
  fillRow(batch.source, batch.sourceMask, batchSize, row, source, pad);
  const length = batch.targets.length / batchSize;
  const at = row * length;
  const count = Math.min(target.length, length);
  batch.target.fill(pad, at, at + length);
  batch.targets.fill(ignoredTarget, at, at + length);
  batch.targetMask.fill(0, at, at + length);
  batch.targetMask.fill(1, at, at + count);
  if (count === 0) return;
  batch.target[at] = start;
  batch.target.set(target.subarray(0, count - 1), at + 1);
  batch.targets.set(target.subarray(0, count), at);
}

/** Fills a row of tokens and its mask; what is too long is cut. */
export function fillRow(
  tokens: Int32Array,
  mask: Uint8Array,
  batchSize: number,
  row: number,
  values: Int32Array,
  pad: number,
): void {
  const length = tokens.length / batchSize;
  const at = row * length;
  const count = Math.min(values.length, length);
  tokens.fill(pad, at, at + length);
  tokens.set(values.subarray(0, count), at);
  mask.fill(0, at, at + length);
  mask.fill(1, at, at + count);
}
