/**
 * A text read as it runs on: rows of one batch after another are one slice of it. This is what segment recurrence needs.
 * @module
 */
import {
  checkState,
  createBatch,
  type Batch,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batch.js';
import type { TokenSource } from './token-source.js';
import { WholeText, type RowTargets, type WholeTextOptions } from './whole-text.js';
import { fillWindow } from './window.js';

/**
 * Cuts a source into `batchSize` slices of equal length, one for each row, and walks through all of them at once, window
 * by window. An epoch ends when less than a window is left in the slices; what is left of the source stays out.
 */
export class StreamWindows implements BatchSource {
  readonly continues = true;
  readonly batchSize: number;
  readonly contextLength: number;
  /** Batches of one epoch. */
  readonly batchCount: number;
  readonly #batch: Batch;
  #batches = 0;

  /** @throws RangeError if the source is shorter than one window for each row. */
  constructor(
    readonly source: TokenSource,
    readonly options: BatchShape,
    name = 'the corpus',
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#batch = createBatch(options, source.readLanguages !== undefined);
    const needed = options.batchSize * options.contextLength + 1;
    if (source.length < needed) {
      throw new RangeError(
        `${name} has ${source.length} tokens, but a stream of ${options.batchSize} rows of ${options.contextLength} ` +
          `needs at least ${needed}: give more text, fewer rows or a shorter context`,
      );
    }
    this.batchCount = Math.floor((source.length - 1) / (needed - 1));
  }

  next(): Batch {
    const index = this.#batches++ % this.batchCount;
    for (let row = 0; row < this.batchSize; row++) {
      const start = (row * this.batchCount + index) * this.contextLength;
      fillWindow(this.source, start, this.#batch, this, row);
    }
    return { ...this.#batch, restarts: index === 0 };
  }

  state(): BatchState {
    return { ...this.#facts(), batches: this.#batches };
  }

  restore(state: BatchState): void {
    this.#batches = checkState(state, this.#facts(), ['batches']).batches;
  }

  #facts(): BatchState {
    const { batchSize, contextLength, source } = this;
    return { order: 'stream', batchSize, contextLength, corpus: source.fingerprint };
  }
}

/**
 * All of a source for validation, in the same order: every token but the first is a target exactly once. Rows are padded
 * at their ends only.
 */
export class StreamSequence extends WholeText {
  readonly continues = true;
  readonly batchCount: number;
  private readonly rowTargets: number;

  /** @throws RangeError if the source has fewer than two tokens. */
  constructor(source: TokenSource, options: WholeTextOptions) {
    super(source, options);
    this.rowTargets = Math.ceil(this.targetCount / this.batchSize);
    this.batchCount = Math.ceil(this.rowTargets / this.contextLength);
  }

  protected targetsOf(index: number, row: number): RowTargets {
    const start = row * this.rowTargets + index * this.contextLength;
    return [start, Math.min((row + 1) * this.rowTargets, this.targetCount)];
  }
}
