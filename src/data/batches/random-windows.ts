/**
 * Random crops of a long text, as nanoGPT trains.
 * @module
 */
import { bitsAt, streamKey } from '../../nn/random.js';
import {
  checkState,
  createBatch,
  type Batch,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batch.js';
import { checkLength, type TokenSource } from './token-source.js';
import { fillWindow } from './window.js';

/**
 * Each row is a window that starts anywhere, drawn with replacement: row `r` of step `s` is a pure function of
 * (seed, s, r). Use {@link ShuffledWindows} to see every token equally often.
 */
export class RandomWindows implements BatchSource {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly #batch: Batch;
  #step = 0;

  /** @throws RangeError if the source is shorter than one window. */
  constructor(
    readonly source: TokenSource,
    readonly options: BatchShape & { readonly seed: number },
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#batch = createBatch(options, source.readLanguages !== undefined);
    checkLength(source, options.contextLength);
  }

  next(): Batch {
    const key = streamKey(this.options.seed, 'random windows', this.#step);
    const starts = this.source.length - this.contextLength;
    for (let row = 0; row < this.batchSize; row++) {
      // 53 random bits: 32 would leave parts of a source of billions of tokens unread.
      const uniform = (bitsAt(key, 2 * row) * 2 ** 21 + (bitsAt(key, 2 * row + 1) >>> 11)) / 2 ** 53;
      fillWindow(this.source, Math.floor(uniform * starts), this.#batch, this, row);
    }
    this.#step++;
    return this.#batch;
  }

  state(): BatchState {
    return { ...this.#facts(), step: this.#step };
  }

  restore(state: BatchState): void {
    this.#step = checkState(state, this.#facts(), ['step']).step;
  }

  #facts(): BatchState {
    const { batchSize, contextLength } = this;
    return {
      order: 'random',
      seed: this.options.seed,
      batchSize,
      contextLength,
      corpus: this.source.fingerprint,
    };
  }
}
