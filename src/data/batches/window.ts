import { padRow, type Batch, type BatchShape } from './batch.js';
import type { TokenSource } from './token-source.js';

/**
 * Fills row `row` with the window that starts at token `start`, padded from token `end` on: by default the last, which
 * nothing follows.
 * The last token of a source is only a target, so that consecutive windows predict every token but the first once.
 */
export function fillWindow(
  source: TokenSource,
  start: number,
  batch: Batch,
  shape: BatchShape,
  row: number,
  pad = 0,
  end = source.length - 1,
): void {
  const at = row * shape.contextLength;
  const count = Math.max(0, Math.min(shape.contextLength, end - start));
  source.read(start, start + count, batch.tokens, at);
  source.read(start + 1, start + 1 + count, batch.targets, at);
  if (batch.languages) source.readLanguages?.(start, start + count, batch.languages, at);
  batch.mask.fill(1, at, at + count);
  if (count < shape.contextLength) padRow(batch, shape, row, count, pad);
}
