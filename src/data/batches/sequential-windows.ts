/**
 * A whole text in order, for validation.
 * @module
 */
import type { TokenSource } from './token-source.js';
import { WholeText, type RowTargets, type WholeTextOptions } from './whole-text.js';

/**
 * Consecutive windows over all of a source: every token but the first is a target exactly once. The last window is
 * padded, and the last batch may have rows of padding only.
 */
export class SequentialWindows extends WholeText {
  readonly batchCount: number;

  /** @throws RangeError if the source has fewer than two tokens. */
  constructor(source: TokenSource, options: WholeTextOptions) {
    super(source, options);
    this.batchCount = Math.ceil(Math.ceil(this.targetCount / this.contextLength) / this.batchSize);
  }

  protected targetsOf(index: number, row: number): RowTargets {
    return [(index * this.batchSize + row) * this.contextLength, this.targetCount];
  }
}
