/**
 * Examples of a task, one a row, in epochs or in order.
 * @module
 */
import { streamKey } from '../../nn/random.js';
import {
  checkState,
  createBatch,
  ignoredTarget,
  shapeOf,
  type AnyBatch,
  type BatchSequence,
  type BatchShape,
  type BatchSource,
  type BatchState,
  type LabelledBatch,
  type PairBatch,
} from './batch.js';
import { createPairs, fillPair, fillRow } from './pair-rows.js';
import { permute } from './permutation.js';

/** A list of examples that can be written into rows. */
export interface Examples<Kind extends AnyBatch> {
  readonly count: number;
  /** Names examples and tokens: a saved position is good for these alone. */
  readonly fingerprint: string;
  create(shape: BatchShape): Kind;
  /** Writes example `index` into a row, or padding where it is undefined. */
  fill(batch: Kind, shape: BatchShape, row: number, index: number | undefined): void;
  /** Targets of an example that count in rows of this shape. */
  targetsOf(shape: BatchShape, index: number): number;
}

/** Tokenised text of an example, ended by the end token. */
type Tokens = Int32Array;

const nothing = new Int32Array();

/** Cuts a text so that its end token stays in the row. */
function cut(tokens: Tokens, length: number): Tokens {
  if (tokens.length <= length) return tokens;
  const kept = tokens.slice(0, length);
  kept[length - 1] = tokens.at(-1)!;
  return kept;
}

/** Pairs of source and target, both with their end token. */
export function pairExamples(
  sources: readonly Tokens[],
  targets: readonly Tokens[],
  tokens: { readonly start: number; readonly pad: number },
  fingerprint: string,
): Examples<PairBatch> {
  const targetLength = (shape: BatchShape): number => shape.targetLength ?? shape.contextLength;
  return {
    count: sources.length,
    fingerprint,
    create: createPairs,
    fill(batch, shape, row, index) {
      const pair =
        index === undefined
          ? { source: nothing, target: nothing }
          : {
              source: cut(sources[index], shape.contextLength),
              target: cut(targets[index], targetLength(shape)),
            };
      fillPair(batch, shape.batchSize, row, pair, tokens);
    },
    targetsOf: (shape, index) => Math.min(targets[index].length, targetLength(shape)),
  };
}

/** Sources with their class. */
export function labelledExamples(
  sources: readonly Tokens[],
  labels: readonly number[],
  pad: number,
  fingerprint: string,
): Examples<LabelledBatch> {
  return {
    count: sources.length,
    fingerprint,
    create({ batchSize, contextLength }) {
      const { tokens: source, mask: sourceMask } = createBatch({ batchSize, contextLength }, false);
      return { source, sourceMask, targets: new Int32Array(batchSize) };
    },
    fill(batch, { batchSize, contextLength }, row, index) {
      const tokens = index === undefined ? nothing : cut(sources[index], contextLength);
      fillRow(batch.source, batch.sourceMask, batchSize, row, tokens, pad);
      batch.targets[row] = index === undefined ? ignoredTarget : labels[index];
    },
    targetsOf: () => 1,
  };
}

/** Every example once an epoch, in an order that differs from epoch to epoch. A batch may end one and begin the next. */
export class ShuffledExamples<Kind extends AnyBatch> implements BatchSource<Kind> {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetLength?: number;
  readonly #batch: Kind;
  #examples = 0;

  constructor(
    readonly examples: Examples<Kind>,
    readonly options: BatchShape & { readonly seed: number },
  ) {
    this.batchSize = options.batchSize;
    this.contextLength = options.contextLength;
    if (options.targetLength !== undefined) this.targetLength = options.targetLength;
    this.#batch = examples.create(options);
  }

  /** Epochs begun before the next batch, counted from 0. */
  get epoch(): number {
    return Math.floor(this.#examples / this.examples.count);
  }

  next(): Kind {
    const { count } = this.examples;
    for (let row = 0; row < this.batchSize; row++, this.#examples++) {
      const key = streamKey(this.options.seed, 'shuffled examples', this.epoch);
      const index = permute(key, count, this.#examples % count);
      this.examples.fill(this.#batch, this, row, index);
    }
    return this.#batch;
  }

  state(): BatchState {
    return { ...this.#facts(), examples: this.#examples };
  }

  restore(state: BatchState): void {
    this.#examples = checkState(state, this.#facts(), ['examples']).examples;
  }

  #facts(): BatchState {
    const { fingerprint: corpus } = this.examples;
    return { order: 'examples', seed: this.options.seed, ...shapeOf(this), corpus };
  }
}

/** All examples in order, for validation. The last batch may have rows of padding. */
export class OrderedExamples<Kind extends AnyBatch> implements BatchSequence<Kind> {
  readonly batchSize: number;
  readonly contextLength: number;
  readonly targetLength?: number;
  readonly batchCount: number;
  readonly targetCount: number;

  constructor(
    readonly examples: Examples<Kind>,
    shape: BatchShape,
  ) {
    this.batchSize = shape.batchSize;
    this.contextLength = shape.contextLength;
    if (shape.targetLength !== undefined) this.targetLength = shape.targetLength;
    this.batchCount = Math.ceil(examples.count / shape.batchSize);
    let targets = 0;
    for (let index = 0; index < examples.count; index++) targets += examples.targetsOf(shape, index);
    this.targetCount = targets;
  }

  *[Symbol.iterator](): Generator<Kind> {
    const { count } = this.examples;
    const batch = this.examples.create(this);
    for (let first = 0; first < count; first += this.batchSize) {
      for (let row = 0; row < this.batchSize; row++) {
        this.examples.fill(batch, this, row, first + row < count ? first + row : undefined);
      }
      yield batch;
    }
  }
}
