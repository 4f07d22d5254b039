/**
 * Batches: what a training step eats.
 * @module
 */

/** The target of a position whose loss is not counted. */
export const ignoredTarget = -100;

/**
 * One batch of `batchSize` rows of `contextLength` tokens, row after row: every array is `[batch, time]` flattened.
 * A source writes each batch into the same arrays, so copy what must outlive the next one.
 */
export interface Batch {
  /** Token ids; 0 or the pad token where `mask` is 0. */
  readonly tokens: Int32Array;
  /** The token that follows each token, or {@link ignoredTarget}. */
  readonly targets: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly mask: Uint8Array;
  /** Index of each token's language, where the corpus knows languages; 0 for padding. */
  readonly languages?: Int32Array;
  /** Of sources with {@link BatchSource.continues}: true where rows begin anew, at the start of an epoch. */
  readonly restarts?: boolean;
}

/**
 * Rows of a source and of what is to be said about it, for encoder–decoders. Sources are `[batch, contextLength]`, the
 * rest `[batch, targetLength]`, all flattened.
 */
export interface PairBatch {
  readonly source: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly sourceMask: Uint8Array;
  /** What the decoder has heard before it says each of `targets`: the start token and the targets before. */
  readonly target: Int32Array;
  readonly targetMask: Uint8Array;
  /** What is said, or {@link ignoredTarget}. */
  readonly targets: Int32Array;
}

/** Rows that each belong to a class, for classifiers. Sources are `[batch, contextLength]`, flattened. */
export interface LabelledBatch {
  readonly source: Int32Array;
  /** 1 for a token, 0 for padding. */
  readonly sourceMask: Uint8Array;
  /** The class of each row, `[batch]`, or {@link ignoredTarget} for a row of padding. */
  readonly targets: Int32Array;
}

/** Any batch: what kind of model reads it shows in its fields. */
export type AnyBatch = Batch | PairBatch | LabelledBatch;

/** Real tokens that a model reads of a batch. */
export function countTokens(batch: AnyBatch): number {
  const masks =
    'tokens' in batch
      ? [batch.mask]
      : 'target' in batch
        ? [batch.sourceMask, batch.targetMask]
        : [batch.sourceMask];
  let count = 0;
  for (const mask of masks) for (const real of mask) count += real;
  return count;
}

/** A reader's position: plain JSON. */
export type BatchState = Readonly<Record<string, string | number>>;

/** An endless source of batches for training. */
export interface BatchSource<Kind extends AnyBatch = Batch> extends BatchShape {
  /** Whether each row goes on where the same row of the batch before ended, as segment recurrence needs. */
  readonly continues?: boolean;
  /** The next batch, in arrays that the following call overwrites. */
  next(): Kind;
  /** The position, as JSON. It is cheap: save it with every checkpoint. */
  state(): BatchState;
  /**
   * Goes to a saved position: the batches that follow are those that followed `state()`.
   * @throws Error if the position was saved by a source of other data, size, order or seed.
   */
  restore(state: BatchState): void;
}

/** The batches of a validation set in order, each token predicted once. Can be iterated again. */
export interface BatchSequence<Kind extends AnyBatch = Batch> extends Iterable<Kind>, BatchShape {
  /** Whether each row goes on where the same row of the batch before ended; the first batch begins anew. */
  readonly continues?: boolean;
  /** Number of batches. */
  readonly batchCount: number;
  /** Number of targets that count, over all batches. */
  readonly targetCount: number;
}

/** Size of the batches of a source. */
export interface BatchShape {
  /** Rows of a batch. */
  readonly batchSize: number;
  /** Tokens of a row; of a source, where rows are pairs. */
  readonly contextLength: number;
  /** Tokens of a target, where rows are pairs. */
  readonly targetLength?: number;
}

/** The size alone, of what has a size among other things. */
export function shapeOf({ batchSize, contextLength, targetLength }: BatchShape): BatchShape {
  return { batchSize, contextLength, ...(targetLength === undefined ? {} : { targetLength }) };
}

/**
 * Makes the arrays of a batch.
 * @throws RangeError if a size is not a positive integer.
 */
export function createBatch(shape: BatchShape, withLanguages: boolean): Batch {
  for (const [key, value] of [
    ['batchSize', shape.batchSize],
    ['contextLength', shape.contextLength],
  ] as const) {
    if (!(Number.isSafeInteger(value) && value > 0))
      throw new RangeError(`${key} must be a positive integer, not ${value}`);
  }
  const size = shape.batchSize * shape.contextLength;
  const batch = { tokens: new Int32Array(size), targets: new Int32Array(size), mask: new Uint8Array(size) };
  return withLanguages ? { ...batch, languages: new Int32Array(size) } : batch;
}

/** Makes row `row` padding from column `from` on. */
export function padRow(batch: Batch, shape: BatchShape, row: number, from: number, pad: number): void {
  const start = row * shape.contextLength + from;
  const end = (row + 1) * shape.contextLength;
  batch.tokens.fill(pad, start, end);
  batch.targets.fill(ignoredTarget, start, end);
  batch.mask.fill(0, start, end);
  batch.languages?.fill(0, start, end);
}

/**
 * Checks that a saved position belongs to a source, by the facts that decide its batches, and returns its counters.
 * @throws Error that names the fact that differs, with both values, or the counter that is missing.
 */
export function checkState<Counter extends string>(
  state: BatchState,
  facts: BatchState,
  counters: readonly Counter[],
): Record<Counter, number> {
  for (const [key, value] of Object.entries(facts)) {
    if (state[key] === value) continue;
    const saved = state[key] === undefined ? 'no value' : JSON.stringify(state[key]);
    throw new Error(
      `the saved data position is of other batches: ${key} was ${saved} and is ${JSON.stringify(value)}; restore it with the data it was saved with`,
    );
  }
  const entries = counters.map((key) => {
    const value = state[key];
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return [key, value] as const;
    throw new Error(
      `the saved data position has no valid ${key}: expected a count, found ${JSON.stringify(value) ?? 'nothing'}`,
    );
  });
  return Object.fromEntries(entries) as Record<Counter, number>;
}
