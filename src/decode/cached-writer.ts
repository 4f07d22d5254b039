/**
 * Writing with a language model that keeps keys and values of the text so far: a token costs one pass over itself.
 * @module
 */
import { cast, input } from '../graph/index.js';
import { cacheInputs, cacheOutputs, type CacheInput, type LanguageModel } from '../models/index.js';
import type { Results } from '../runtime/index.js';
import { bucket, checkPrompts, type GrowingTexts, type TextWriter } from './growing-texts.js';
import { KeyValueStore } from './key-value-store.js';
import type { Pass, Passes } from './programs.js';

/** Least sizes that programs are compiled for; larger ones double. */
const [LEAST_TIME, LEAST_CAPACITY] = [16, 256];

/** One pass: `[batch, time]` tokens after `capacity` slots; none where texts begin. */
interface PassShape {
  readonly batch: number;
  readonly time: number;
  readonly capacity?: number;
}

/**
 * Writes with a language model and its cache. Prompts are read in one pass, padded at the right to the next size; then
 * every pass adds one token to every text. Programs are compiled for sizes that double, so a text of n tokens meets
 * O(log n) of them, and nothing is built per token.
 *
 * Once a text is longer than the model's window, every token is computed from the last `windowLength` tokens anew, with
 * positions from 0: what a model has learnt is what it sees from a beginning, and states in a cache would still hold what
 * has left the window.
 */
export class CachedWriter implements TextWriter {
  /**
   * @param passes over the weights of the model; released with the writer
   * @throws RangeError if the model needs its text in one piece: see `LanguageModel.wholeText`.
   */
  constructor(
    readonly model: LanguageModel,
    private readonly passes: Passes,
  ) {
    if (model.wholeText !== undefined)
      throw new RangeError(`the model cannot use a cache: ${model.wholeText}`);
  }

  /** Compiles the pass that a single text needs most. */
  async open(): Promise<this> {
    await this.program({ batch: 1, time: 1, capacity: this.capacity(1) });
    return this;
  }

  async begin(prompts: readonly ArrayLike<number>[]): Promise<GrowingTexts> {
    checkPrompts(prompts);
    const { windowLength } = this.model;
    const visible = prompts.map((prompt) => Array.from(prompt).slice(-windowLength));
    const longest = Math.max(...visible.map(({ length }) => length));
    const store = new KeyValueStore(this.model.cacheSizes, prompts.length, this.capacity(longest + 1));
    const texts = new CachedTexts(this, prompts, store);
    await texts.begin(visible, bucket(longest, LEAST_TIME, windowLength));
    return texts;
  }

  async release(): Promise<void> {
    await this.passes.release();
  }

  /** Slots for a text of so many tokens. */
  capacity(length: number): number {
    return bucket(length, LEAST_CAPACITY, this.model.windowLength);
  }

  /**
   * Scores after texts of `[batch, time]` tokens that begin, or go on from a store.
   * @param rows tokens of every text, at most `time`; a text without any is idle.
   */
  async run(time: number, rows: readonly (readonly number[])[], store?: KeyValueStore): Promise<Results> {
    const batch = rows.length;
    const program = await this.program({ batch, time, ...(store && { capacity: store.capacity }) });
    const tokens = new Int32Array(batch * time);
    const mask = new Uint8Array(batch * time);
    rows.forEach((row, text) => {
      tokens.set(row, text * time);
      mask.fill(1, text * time, text * time + row.length);
    });
    const last = Int32Array.from(rows, ({ length }, text) => text * time + Math.max(length - 1, 0));
    return program.run({ tokens, mask, last, ...store?.feeds });
  }

  private program({ batch, time, capacity }: PassShape): Promise<Pass> {
    return this.passes.get(`${batch} × ${time} after ${capacity ?? 'nothing'}`, (context) => {
      const cache: CacheInput =
        capacity === undefined ? 'start' : cacheInputs(this.model.cacheSizes, batch, capacity);
      const tokens = input('tokens', 'int32', [batch, time]);
      const mask = cast(input('mask', 'bool', [batch, time]), 'float32');
      const logitRows = input('last', 'int32', [batch]);
      const { logits, cache: kept } = this.model.forward({ tokens, mask, logitRows, cache }, context);
      return { logits, ...cacheOutputs(kept!) };
    });
  }
}

class CachedTexts implements GrowingTexts {
  readonly tokens: number[][];
  readonly scores: Float32Array[] = [];
  readonly maxLength = Infinity;

  constructor(
    private readonly writer: CachedWriter,
    prompts: readonly ArrayLike<number>[],
    private readonly store: KeyValueStore,
  ) {
    this.tokens = prompts.map((prompt) => Array.from(prompt));
  }

  async begin(visible: readonly (readonly number[])[], time: number): Promise<void> {
    const results = await this.writer.run(time, visible);
    this.keep(
      results,
      time,
      visible.map(({ length }) => length),
    );
  }

  async append(tokens: readonly (number | undefined)[]): Promise<void> {
    tokens.forEach((token, text) => token !== undefined && this.tokens[text].push(token));
    const { windowLength } = this.writer.model;
    const fits = tokens.map((token, text) => token !== undefined && this.store.lengths[text] < windowLength);
    const needed = Math.max(0, ...fits.map((fit, text) => (fit ? this.store.lengths[text] + 1 : 0)));
    if (needed > this.store.capacity) this.store.grow(this.writer.capacity(needed));
    if (needed > 0) {
      const rows = tokens.map((token, text) => (fits[text] ? [token!] : []));
      const results = await this.writer.run(1, rows, this.store);
      this.keep(results, 1, fits.map(Number));
    }
    for (const [text, token] of tokens.entries()) {
      if (token === undefined || fits[text]) continue;
      const { logits } = await this.writer.run(windowLength, [this.tokens[text].slice(-windowLength)]);
      this.scores[text] = (logits as Float32Array).slice();
    }
  }

  select(texts: readonly number[]): void {
    const before = [...this.tokens];
    texts.forEach((from, to) => (this.tokens[to] = [...before[from]]));
    this.store.select(texts);
  }

  /** Takes over what a pass computed for texts that have tokens in it. */
  private keep(results: Results, time: number, counts: readonly number[]): void {
    this.store.append(results, time, counts);
    const logits = results['logits'] as Float32Array;
    const width = logits.length / counts.length;
    counts.forEach((count, text) => {
      if (count > 0) this.scores[text] = logits.subarray(text * width, (text + 1) * width);
    });
  }
}
