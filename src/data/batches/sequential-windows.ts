/**
 * A whole text in order, for validation.
 * @module
 */
import { createBatch, padRow, type Batch, type BatchSequence, type BatchShape } from './batch.js';
import type { TokenSource } from './token-source.js';
import { fillWindow } from './window.js';

/**
 * Consecutive windows over all of a source: every token but the first is a target exactly once. The last window is
 * padded, and the last batch may have rows of padding only.
 */
export class SequentialWindows implements BatchSequence {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly batchCount: number;
  readonly targetCount: number;
  readonly #windowCount: number;

  /** @throws RangeError if the source has fewer than two tokens. */
  constructor(
    readonly source: TokenSource,
    readonly options: BatchShape & { readonly pad?: number },
  ) {
    if (source.length < 2)
      throw new RangeError(`the corpus has ${source.length} tokens: nothing can be predicted`);
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.targetCount = source.length - 1;
    this.#windowCount = Math.ceil(this.targetCount / options.contextLength);
    this.batchCount = Math.ceil(this.#windowCount / options.batchSize);
  }

  *[Symbol.iterator](): Generator<Batch> {
    const batch = createBatch(this.options, this.source.readLanguages !== undefined);
    const pad = this.options.pad ?? 0;
    for (let first = 0; first < this.#windowCount; first += this.batchSize) {
      for (let row = 0; row < this.batchSize; row++) {
        if (first + row < this.#windowCount) {
          fillWindow(this.source, (first + row) * this.contextLength, batch, this, row, pad);
        } else {
          padRow(batch, this, row, 0, pad);
        }
      }
      yield batch;
    }
  }
}
