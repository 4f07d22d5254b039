/**
 * Epochs over a text: consecutive windows in an order that differs from epoch to epoch.
 * @module
 */
import { streamKey } from '../../nn/random.js';
import {
  checkState,
  createBatch,
  type Batch,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batch.js';
import { permute } from './permutation.js';
import { checkLength, type TokenSource } from './token-source.js';
import { fillWindow } from './window.js';

/**
 * Cuts a source into consecutive windows that do not overlap and gives each exactly once an epoch. A remainder
 * shorter than a window is left out. A batch may end one epoch and begin the next.
 */
export class ShuffledWindows implements BatchSource {
  readonly batchSize: number;
  readonly contextLength: number;
  /** Windows of one epoch. */
  readonly windowCount: number;
  readonly #batch: Batch;
  #windows = 0;

  /** @throws RangeError if the source is shorter than one window. */
  constructor(
    readonly source: TokenSource,
    readonly options: BatchShape & { readonly seed: number },
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    this.#batch = createBatch(options, source.readLanguages !== undefined);
    checkLength(source, options.contextLength);
    this.windowCount = Math.floor((source.length - 1) / options.contextLength);
  }

  /** Epochs begun before the next batch, counted from 0. */
  get epoch(): number {
    return Math.floor(this.#windows / this.windowCount);
  }

  next(): Batch {
    for (let row = 0; row < this.batchSize; row++, this.#windows++) {
      const key = streamKey(this.options.seed, 'shuffled windows', this.epoch);
      const window = permute(key, this.windowCount, this.#windows % this.windowCount);
      fillWindow(this.source, window * this.contextLength, this.#batch, this, row);
    }
    return this.#batch;
  }

  state(): BatchState {
    return { ...this.#facts(), windows: this.#windows };
  }

  restore(state: BatchState): void {
    this.#windows = checkState(state, this.#facts(), ['windows']).windows;
  }

  #facts(): BatchState {
    const { batchSize, contextLength } = this;
    return {
      order: 'shuffled',
      seed: this.options.seed,
      batchSize,
      contextLength,
      corpus: this.source.fingerprint,
    };
  }
}
