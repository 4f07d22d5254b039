/**
 * Text generation: greedy or sampled, one prompt or a batch of them.
 * @module
 */
import { EncoderDecoder, type LanguageModel } from '../models/index.js';
import { RandomStream, streamKey } from '../nn/index.js';
import type { RuntimeOptions } from '../runtime/index.js';
import { beamSearch, type Beam, type BeamOptions } from './beam-search.js';
import { CachedWriter } from './cached-writer.js';
import { checkPrompts, type GrowingTexts, type TextWriter } from './growing-texts.js';
import { Programs, type Passes } from './programs.js';
import {
  checkSampling,
  logProbabilities,
  penalizeRepetition,
  sample,
  type SamplingOptions,
} from './sampling.js';
import { SequenceWriter } from './sequence-writer.js';
import { TextStream, type Decoder } from './text-stream.js';
import { WindowWriter } from './window-writer.js';

/** Settings of {@link Generator.generate}. */
export interface GenerationOptions extends SamplingOptions {
  /** Tokens to add. */
  readonly maxTokens: number;
  /** The same seed gives the same text. Texts of a batch draw from streams of their own, the first as if alone. */
  readonly seed: number;
  /** Only ids below this are drawn: those that the tokenizer knows, where the model has room for more. */
  readonly vocabSize?: number;
  /** Divides the scores of tokens that the prompt or the text already has; 1 when absent. See {@link penalizeRepetition}. */
  readonly repetitionPenalty?: number;
  /** Any of these ends the text early when drawn, and is no part of it. */
  readonly stopTokens?: readonly number[];
  /** The text ends before the first of these; needs a tokenizer. Tokens that reach into one have been counted. */
  readonly stopStrings?: readonly string[];
  /** Decodes along: events and results then have text. */
  readonly tokenizer?: Decoder;
  /** Whether to tell how probable the model itself, before any option here, found each token. */
  readonly logProbabilities?: boolean;
  /** Ends generation between two tokens by throwing the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Why a text ended: a stop token or string came, or `maxTokens` or the model's longest text was reached. */
export type FinishReason = 'stop' | 'length';

/** Something that happened to one text of a batch. */
export type GenerationEvent = GeneratedToken | FinishedText;

/** A token was added. */
export interface GeneratedToken {
  readonly kind: 'token';
  /** Which prompt it continues. */
  readonly index: number;
  readonly id: number;
  /** Natural logarithm; only where asked for. */
  readonly logProbability?: number;
  /** What has become certain of the text; only with a tokenizer. */
  readonly text?: string;
}

/** A text is finished. */
export interface FinishedText {
  readonly kind: 'end';
  readonly index: number;
  readonly reason: FinishReason;
  /** The text's last piece, which was held back until now; only with a tokenizer. */
  readonly text?: string;
}

/** A finished text. */
export interface Generation {
  /** Added tokens, without a stop token. */
  readonly ids: readonly number[];
  readonly reason: FinishReason;
  /** One a token; only where asked for. */
  readonly logProbabilities?: readonly number[];
  /** Only with a tokenizer. */
  readonly text?: string;
}

/**
 * Writes texts with any model that reads from left to right.
 *
 * @example
 * const generator = await Generator.create(model, weights);
 * const options = { maxTokens: 50, temperature: 0.8, topK: 40, topP: 1, seed: 1 };
 * for await (const id of generator.generate(tokenizer.encode('Once'), options)) console.log(id);
 */
export class Generator {
  /** @param writer what continues texts; {@link create} chooses one for a model. */
  constructor(private readonly writer: TextWriter) {}

  /**
   * Opens a model: with a cache of keys and values where it can have one, otherwise over its whole window.
   *
   * @param weights every parameter of the model by name; or passes over them, which the generator then owns.
   * @throws Error if what the model says about a token may depend on later ones: text is made from left to right, where
   *   nothing comes later, so that it would not be the model that was measured.
   */
  static async create(
    model: LanguageModel | EncoderDecoder,
    weights: Iterable<readonly [string, Float32Array]> | Passes,
    runtime: RuntimeOptions = {},
  ): Promise<Generator> {
    const [leak, ...others] = model.leaks;
    if (leak !== undefined) {
      const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
      throw new Error(`the model looks ahead, so it cannot write text from left to right: ${leak}${more}`);
    }
    const passes = Symbol.iterator in weights ? new Programs(new Map(weights), runtime) : weights;
    if (model instanceof EncoderDecoder) return new Generator(await new SequenceWriter(model, passes).open());
    const Writer = model.wholeText === undefined ? CachedWriter : WindowWriter;
    return new Generator(await new Writer(model, passes).open());
  }

  /**
   * Continues a prompt token by token; of an encoder–decoder, writes the target of a source.
   * @param prompt at least one id; only its last `windowLength` (of the model) count.
   * @throws RangeError if the prompt is empty, or an option out of its range.
   */
  async *generate(prompt: ArrayLike<number>, options: GenerationOptions): AsyncGenerator<number> {
    for await (const event of this.stream([prompt], options)) if (event.kind === 'token') yield event.id;
  }

  /** Continues a batch of prompts and waits for all. */
  async complete(
    prompts: readonly ArrayLike<number>[],
    options: GenerationOptions,
  ): Promise<readonly Generation[]> {
    const { tokenizer, logProbabilities: wanted = false } = options;
    const made = prompts.map(() => ({ ids: [] as number[], logs: [] as number[], text: '' }));
    const reasons: FinishReason[] = [];
    for await (const event of this.stream(prompts, options)) {
      const { ids, logs } = made[event.index];
      made[event.index].text += event.text ?? '';
      if (event.kind === 'end') reasons[event.index] = event.reason;
      else {
        ids.push(event.id);
        if (event.logProbability !== undefined) logs.push(event.logProbability);
      }
    }
    return made.map(({ ids, logs, text }, index) => ({
      ids,
      reason: reasons[index],
      ...(wanted && { logProbabilities: logs }),
      ...(tokenizer && { text }),
    }));
  }

  /**
   * Continues a batch of prompts of any lengths together, one token of each in turn. Texts that are finished wait for the
   * others without being computed.
   */
  async *stream(
    prompts: readonly ArrayLike<number>[],
    options: GenerationOptions,
  ): AsyncGenerator<GenerationEvent> {
    checkOptions(options);
    checkPrompts(prompts);
    const { signal } = options;
    signal?.throwIfAborted();
    const texts = await this.writer.begin(prompts);
    const threads = prompts.map((_, index) => new Thread(index, texts, options));
    for (;;) {
      const added: (number | undefined)[] = [];
      for (const thread of threads) {
        if (thread.finished) continue;
        const events = thread.next();
        added[thread.index] = thread.finished ? undefined : (events[0] as GeneratedToken).id;
        yield* events;
      }
      if (threads.every(({ finished }) => finished)) return;
      signal?.throwIfAborted();
      await texts.append(Array.from(threads, ({ index }) => added[index]));
    }
  }

  /**
   * Searches the most probable continuations of a prompt; of an encoder–decoder, the most probable targets of a source.
   * @returns at most `beams`, best first
   */
  async search(prompt: ArrayLike<number>, options: BeamOptions): Promise<readonly Beam[]> {
    return beamSearch(this.writer, prompt, options);
  }

  /** Frees the sessions. */
  async release(): Promise<void> {
    await this.writer.release();
  }
}

/** One text of a batch while it is written. */
class Thread {
  finished = false;
  private readonly random: RandomStream;
  private readonly text: TextStream | undefined;
  private readonly said: Set<number>;
  private count = 0;

  constructor(
    readonly index: number,
    private readonly texts: GrowingTexts,
    private readonly options: GenerationOptions,
  ) {
    const { seed, tokenizer, stopStrings } = options;
    this.random = new RandomStream(streamKey(seed, 'generate', ...(index === 0 ? [] : [index])));
    const before = texts.tokens[index];
    this.text = tokenizer && new TextStream(tokenizer, before, stopStrings);
    this.said = new Set(before);
  }

  /** Chooses a token; what comes of it. */
  next(): GenerationEvent[] {
    const { index, options } = this;
    const scores = this.texts.scores[index].subarray(0, options.vocabSize);
    const id = sample(this.penalized(scores), options, this.random.uniform());
    if (options.stopTokens?.includes(id)) return [this.finish('stop')];
    this.count++;
    this.said.add(id);
    const piece = this.text?.push(id);
    const event: GeneratedToken = {
      kind: 'token',
      index,
      id,
      ...(options.logProbabilities && { logProbability: logProbabilities(scores)[id] }),
      ...(piece !== undefined && { text: piece }),
    };
    if (this.text?.stopped) return [event, this.finish('stop')];
    const room = this.texts.maxLength - this.texts.tokens[index].length;
    return this.count >= options.maxTokens || room < 1 ? [event, this.finish('length')] : [event];
  }

  private penalized(scores: Float32Array): Float32Array {
    const { repetitionPenalty = 1 } = this.options;
    if (repetitionPenalty === 1) return scores;
    const changed = scores.slice();
    penalizeRepetition(changed, this.said, repetitionPenalty);
    return changed;
  }

  private finish(reason: FinishReason): FinishedText {
    this.finished = true;
    const rest = this.text?.end();
    return { kind: 'end', index: this.index, reason, ...(rest !== undefined && { text: rest }) };
  }
}

function checkOptions(options: GenerationOptions): void {
  checkSampling(options);
  const { maxTokens, repetitionPenalty = 1, stopStrings = [], tokenizer } = options;
  if (!(maxTokens >= 1)) throw new RangeError(`maxTokens ${maxTokens} must be 1 or more`);
  if (!(repetitionPenalty > 0))
    throw new RangeError(`repetitionPenalty ${repetitionPenalty} must be more than 0`);
  if (stopStrings.length > 0 && !tokenizer)
    throw new RangeError('stopStrings need a tokenizer, which says what the tokens spell');
}
