/**
 * Writing targets with an encoder–decoder: the source is read once, and a token costs one pass of the decoder over itself.
 * @module
 */
import { cast, input, type Tensor } from '../graph/index.js';
import { cacheInputs, cacheOutputs, type CacheInput, type EncoderDecoder } from '../models/index.js';
import type { CacheEntry } from '../nn/index.js';
import type { Results, TensorData } from '../runtime/index.js';
import { bucket, checkPrompts, type GrowingTexts, type TextWriter } from './growing-texts.js';
import { KeyValueStore, selectRows } from './key-value-store.js';
import type { Pass, Passes } from './programs.js';

/** Least sizes that programs are compiled for; larger ones double. */
const [LEAST_SOURCE, LEAST_CAPACITY] = [16, 64];

/** What a batch of sources has become: feeds of every decoder pass. */
interface ReadSources {
  readonly time: number;
  /** Keys and values by feed name, and `sourceMask`. */
  readonly feeds: Readonly<Record<string, TensorData>>;
}

/**
 * Writes targets; prompts are sources. A target begins with the decoder's start token and ends at `targetLength` tokens
 * at the latest. Sources are padded at the right to sizes that double: layers whose places grow with the length of a
 * sequence give more of them to padded ones, as they do in an evaluation.
 */
export class SequenceWriter implements TextWriter {
  private readonly startToken: number;

  /**
   * @param passes over the weights of the model; released with the writer
   * @throws RangeError if the decoder needs whole targets, or the model does not say with which token they begin.
   */
  constructor(
    readonly model: EncoderDecoder,
    private readonly passes: Passes,
  ) {
    const { wholeText } = model.decoder;
    if (wholeText !== undefined) throw new RangeError(`the model cannot use a cache: ${wholeText}`);
    const { decoderStartTokenId, padTokenId } = model.options;
    const start = decoderStartTokenId ?? padTokenId;
    if (start === undefined) {
      throw new RangeError(
        'the model does not say with which token a target begins: set decoderStartTokenId or padTokenId in its config.json',
      );
    }
    this.startToken = start;
  }

  /** Compiles the pass that a single short source needs most. */
  async open(): Promise<this> {
    await this.decoder(1, this.sourceTime(1), this.capacity(1));
    return this;
  }

  /** @throws RangeError if a source is longer than the model's `contextLength`. */
  async begin(prompts: readonly ArrayLike<number>[]): Promise<GrowingTexts> {
    checkPrompts(prompts);
    const { contextLength } = this.model.options;
    const longest = Math.max(...prompts.map(({ length }) => length));
    if (longest > contextLength) {
      throw new RangeError(
        `the source has ${longest} tokens, more than the model's contextLength ${contextLength}: shorten it`,
      );
    }
    const sources = await this.read(prompts, this.sourceTime(longest));
    const store = new KeyValueStore(this.model.decoder.cacheSizes, prompts.length, this.capacity(1));
    const texts = new GrowingTargets(this, sources, store);
    await texts.append(prompts.map(() => this.startToken));
    return texts;
  }

  async release(): Promise<void> {
    await this.passes.release();
  }

  /** Slots for a target of so many tokens. */
  capacity(length: number): number {
    return bucket(length, LEAST_CAPACITY, this.model.decoder.maxTime);
  }

  /** Scores after one more token of every target; a target without one is idle. */
  async step(
    tokens: readonly (number | undefined)[],
    sources: ReadSources,
    store: KeyValueStore,
  ): Promise<Results> {
    const program = await this.decoder(tokens.length, sources.time, store.capacity);
    return program.run({
      target: Int32Array.from(tokens, (token) => token ?? 0),
      mask: Uint8Array.from(tokens, (token) => Number(token !== undefined)),
      ...sources.feeds,
      ...store.feeds,
    });
  }

  private sourceTime(length: number): number {
    return bucket(length, LEAST_SOURCE, this.model.options.contextLength);
  }

  private async read(sources: readonly ArrayLike<number>[], time: number): Promise<ReadSources> {
    const batch = sources.length;
    const program = await this.passes.get(`read ${batch} × ${time}`, (context) => {
      const source = input('source', 'int32', [batch, time]);
      const sourceMask = cast(input('sourceMask', 'bool', [batch, time]), 'float32');
      return crossFeeds(this.model.readSource({ source, sourceMask }, context));
    });
    const [source, sourceMask] = [new Int32Array(batch * time), new Uint8Array(batch * time)];
    sources.forEach((ids, row) => {
      source.set(ids, row * time);
      sourceMask.fill(1, row * time, row * time + ids.length);
    });
    const results = Object.entries<TensorData>(await program.run({ source, sourceMask }));
    // The program's own buffers would change under these targets when it reads the next sources.
    const kept = results.map(([name, data]) => [name, data.slice()] as const);
    return { time, feeds: { ...Object.fromEntries(kept), sourceMask } };
  }

  private decoder(batch: number, sourceTime: number, capacity: number): Promise<Pass> {
    return this.passes.get(`${batch} after ${capacity}, source ${sourceTime}`, (context) => {
      const { decoder, options } = this.model;
      const { numHeads, hiddenSize, headSize = hiddenSize / numHeads } = options;
      const shape = [batch, numHeads, sourceTime, headSize];
      const states = decoder.blocks.map((_, layer): CacheEntry => ({
        key: input(`cross.${layer}.key`, 'float32', shape),
        value: input(`cross.${layer}.value`, 'float32', shape),
      }));
      const cache: CacheInput = cacheInputs(decoder.cacheSizes, batch, capacity);
      const target = input('target', 'int32', [batch, 1]);
      const [targetMask, sourceMask] = [
        cast(input('mask', 'bool', [batch, 1]), 'float32'),
        cast(input('sourceMask', 'bool', [batch, sourceTime]), 'float32'),
      ];
      const { logits, cache: kept } = this.model.decode(
        { target, targetMask, states, sourceMask, cache },
        context,
      );
      return { logits, ...cacheOutputs(kept!) };
    });
  }
}

function crossFeeds(entries: readonly CacheEntry[]): Record<string, Tensor> {
  return Object.fromEntries(
    entries.flatMap((entry, layer) =>
      Object.entries(entry).map(([part, tensor]) => [`cross.${layer}.${part}`, tensor]),
    ),
  );
}

class GrowingTargets implements GrowingTexts {
  readonly tokens: number[][];
  readonly scores: Float32Array[] = [];

  constructor(
    private readonly writer: SequenceWriter,
    private readonly sources: ReadSources,
    private readonly store: KeyValueStore,
  ) {
    this.tokens = Array.from({ length: store.batch }, () => []);
  }

  get maxLength(): number {
    return this.writer.model.decoder.maxTime;
  }

  async append(tokens: readonly (number | undefined)[]): Promise<void> {
    const { store, writer } = this;
    const full = tokens.findIndex(
      (token, text) => token !== undefined && this.tokens[text].length >= this.maxLength,
    );
    if (full >= 0) throw new RangeError(`target ${full} has its ${this.maxLength} tokens: targetLength`);
    tokens.forEach((token, text) => token !== undefined && this.tokens[text].push(token));
    const longest = Math.max(...this.tokens.map(({ length }) => length));
    if (longest > store.capacity) store.grow(writer.capacity(longest));
    const results = await writer.step(tokens, this.sources, store);
    store.append(
      results,
      1,
      tokens.map((token) => Number(token !== undefined)),
    );
    const logits = results['logits'] as Float32Array;
    const width = logits.length / tokens.length;
    tokens.forEach((token, text) => {
      if (token !== undefined) this.scores[text] = logits.subarray(text * width, (text + 1) * width);
    });
  }

  select(texts: readonly number[]): void {
    const before = [...this.tokens];
    texts.forEach((from, to) => (this.tokens[to] = [...before[from]]));
    this.store.select(texts);
    for (const data of Object.values(this.sources.feeds)) selectRows(data, texts);
  }
}
