/**
 * Windows of any corpus, corrupted in spans.
 * @module
 */
import { streamKey } from '../../nn/random.js';
import {
  checkState,
  type Batch,
  type BatchSequence,
  type BatchSource,
  type BatchState,
  type PairBatch,
} from './batch.js';
import { createPairs, fillPair } from './pair-rows.js';
import {
  corruptedLengths,
  corruptSpans,
  type CorruptionTokens,
  type SpanCorruptionOptions,
} from './span-corruption.js';

/** What {@link CorruptedWindows} need beside the windows. */
export interface CorruptedWindowsOptions extends SpanCorruptionOptions, CorruptionTokens {
  /** Begins what the decoder reads. */
  readonly start: number;
  /** Fills rows that are short. */
  readonly pad: number;
}

/** A single token has no two parts: shorter rows become padding. */
const shortest = 2;

/** Where each row of a mask begins, and how many tokens are in it. */
function rowsOf(mask: Uint8Array, batchSize: number): readonly { at: number; count: number }[] {
  const length = mask.length / batchSize;
  return Array.from({ length: batchSize }, (_, row) => {
    const padding = mask.subarray(row * length, (row + 1) * length).indexOf(0);
    return { at: row * length, count: padding < 0 ? length : padding };
  });
}

/** Corrupts batches of windows. The lengths of its rows are those of a full window. */
class Corruptor {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetLength: number;
  readonly batch: PairBatch;

  /** @throws RangeError if there are more spans in a window than sentinels. */
  constructor(
    windows: { readonly batchSize: number; readonly contextLength: number },
    readonly options: CorruptedWindowsOptions,
  ) {
    const { source, target, spans } = corruptedLengths(windows.contextLength, options);
    const { sentinels } = options;
    if (spans > sentinels.length) {
      throw new RangeError(
        `${spans} spans of ${windows.contextLength} tokens need as many sentinels, but the tokenizer has ${sentinels.length}`,
      );
    }
    this.batchSize = windows.batchSize;
    this.contextLength = source;
    this.targetLength = target;
    this.batch = createPairs(this);
  }

  corrupt({ tokens, mask }: Batch, key: number): PairBatch {
    const { batchSize, batch, options } = this;
    for (const [row, { at, count }] of rowsOf(mask, batchSize).entries()) {
      const pair =
        count < shortest
          ? { source: new Int32Array(), target: new Int32Array() }
          : corruptSpans(tokens.subarray(at, at + count), streamKey(key, row), options, options);
      fillPair(batch, batchSize, row, pair, options);
    }
    return batch;
  }
}

/**
 * Training windows, each corrupted anew whenever it is read: what batch number n of a run looks like is a pure function of
 * the windows, seed and n.
 */
export class CorruptedWindows implements BatchSource<PairBatch> {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetLength: number;
  readonly #corruptor: Corruptor;
  #corrupted = 0;

  /** @throws RangeError if a window has more spans than there are sentinels. */
  constructor(
    readonly windows: BatchSource,
    readonly options: CorruptedWindowsOptions & { readonly seed: number },
  ) {
    this.#corruptor = new Corruptor(windows, options);
    this.batchSize = this.#corruptor.batchSize;
    this.contextLength = this.#corruptor.contextLength;
    this.targetLength = this.#corruptor.targetLength;
  }

  next(): PairBatch {
    const key = streamKey(this.options.seed, 'span corruption', this.#corrupted++);
    return this.#corruptor.corrupt(this.windows.next(), key);
  }

  state(): BatchState {
    return { ...this.windows.state(), ...this.#facts(), corrupted: this.#corrupted };
  }

  restore(state: BatchState): void {
    const { corrupted } = checkState(state, this.#facts(), ['corrupted']);
    this.windows.restore(state);
    this.#corrupted = corrupted;
  }

  #facts(): BatchState {
    const { noiseDensity, meanSpanLength, seed, sentinels, end, pad, start } = this.options;
    const ids = `${start} ${pad} ${end} ${sentinels.join(' ')}`;
    return { noiseDensity, meanSpanLength, corruptionSeed: seed, corruptionTokens: ids };
  }
}

/** A validation sequence, corrupted in the same way at every reading, whatever the seed of the run. */
export class CorruptedSequence implements BatchSequence<PairBatch> {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetLength: number;
  readonly batchCount: number;
  readonly #corruptor: Corruptor;

  /** @throws RangeError if a window has more spans than there are sentinels. */
  constructor(
    readonly windows: BatchSequence,
    readonly options: CorruptedWindowsOptions,
  ) {
    this.#corruptor = new Corruptor(windows, options);
    this.batchSize = this.#corruptor.batchSize;
    this.contextLength = this.#corruptor.contextLength;
    this.targetLength = this.#corruptor.targetLength;
    this.batchCount = windows.batchCount;
  }

  /** Counted by reading all windows. */
  get targetCount(): number {
    let targets = 0;
    for (const { mask } of this.windows) {
      for (const { count } of rowsOf(mask, this.batchSize)) {
        if (count >= shortest) targets += corruptedLengths(count, this.options).target;
      }
    }
    return targets;
  }

  *[Symbol.iterator](): Generator<PairBatch> {
    let index = 0;
    for (const batch of this.windows) {
      yield this.#corruptor.corrupt(batch, streamKey('corrupted validation', index++));
    }
  }
}
