/**
 * All of a text once, for validation.
 * @module
 */
import { createBatch, padRow, type Batch, type BatchSequence, type BatchShape } from './batch.js';
import type { TokenSource } from './token-source.js';
import { fillWindow } from './window.js';

/** How a text is read once. */
export interface WholeTextOptions extends BatchShape {
  /** Id of what fills rows that have nothing to say; 0 when absent. */
  readonly pad?: number;
}

/** Targets that a row of a batch has, from the first to before the second; the second is not past the end of the text. */
export type RowTargets = readonly [start: number, end: number];

/** Every token but the first is a target exactly once; in which batch, the classes that extend this say. */
export abstract class WholeText implements BatchSequence {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetCount: number;
  abstract readonly batchCount: number;

  /** @throws RangeError if the source has fewer than two tokens. */
  constructor(
    readonly source: TokenSource,
    readonly options: WholeTextOptions,
  ) {
    if (source.length < 2)
      throw new RangeError(`the corpus has ${source.length} tokens: nothing can be predicted`);
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.targetCount = source.length - 1;
  }

  *[Symbol.iterator](): Generator<Batch> {
    const batch = createBatch(this.options, this.source.readLanguages !== undefined);
    const pad = this.options.pad ?? 0;
    for (let index = 0; index < this.batchCount; index++) {
      for (let row = 0; row < this.batchSize; row++) {
        const [start, end] = this.targetsOf(index, row);
        if (start < end) fillWindow(this.source, start, batch, this, row, pad, end);
        else padRow(batch, this, row, 0, pad);
      }
      yield batch;
    }
  }

  /** An empty range for a row of padding. */
  protected abstract targetsOf(index: number, row: number): RowTargets;
}
