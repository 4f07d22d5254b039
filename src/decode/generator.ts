/**
 * Text generation by a language model: the whole window is computed again for every token.
 * @module
 */
import { cast, input } from '../graph/index.js';
import type { LanguageModel } from '../models/index.js';
import { evaluationContext, RandomStream, streamKey } from '../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../runtime/index.js';
import { sample, type SamplingOptions } from './sampling.js';

/** Settings of {@link Generator.generate}. */
export interface GenerationOptions extends SamplingOptions {
  /** Tokens to add. */
  readonly maxTokens: number;
  readonly seed: number;
  /** Only ids below this are drawn: those that the tokenizer knows, where the model has room for more. */
  readonly vocabSize?: number;
  /** Ends the text early when drawn. */
  readonly stopToken?: number | undefined;
}

/** A compiled forward pass over one window. */
export class Generator {
  private readonly window: Int32Array;
  private readonly mask: Uint8Array;

  private constructor(
    private readonly program: Program<'logits'>,
    windowLength: number,
  ) {
    this.window = new Int32Array(windowLength);
    this.mask = new Uint8Array(windowLength);
  }

  /**
   * @param weights every parameter of the model by name.
   * @throws Error if what the model says about a token may depend on later ones: text is made from left to right, where
   *   nothing comes later, so that it would not be the model that was measured.
   */
  static async create(
    model: LanguageModel,
    weights: Iterable<readonly [string, Float32Array]>,
    runtime: RuntimeOptions = {},
  ): Promise<Generator> {
    const [leak, ...others] = model.leaks;
    if (leak !== undefined) {
      const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
      throw new Error(`the model looks ahead, so it cannot write text from left to right: ${leak}${more}`);
    }
    // With a memory: as many tokens as it and a segment hold, as one segment.
    const { windowLength } = model;
    const tokens = input('tokens', 'int32', [1, windowLength]);
    const mask = cast(input('mask', 'bool', [1, windowLength]), 'float32');
    const logitRows = input('last', 'int32', [1]);
    const { logits } = model.forward({ tokens, mask, logitRows }, evaluationContext());
    const program = (await compile({ logits }, runtime)).bindKnown(weights);
    return new Generator(program, windowLength);
  }

  /**
   * Continues a prompt token by token.
   * @param prompt at least one id; only its last `windowLength` (of the model) count.
   * @throws RangeError if the prompt is empty.
   */
  async *generate(prompt: ArrayLike<number>, options: GenerationOptions): AsyncGenerator<number> {
    if (prompt.length === 0)
      throw new RangeError('the prompt has no token: generation needs something to continue');
    const random = new RandomStream(streamKey(options.seed, 'generate'));
    const text = Array.from(prompt);
    for (let count = 0; count < options.maxTokens; count++) {
      const visible = text.slice(-this.window.length);
      this.window.fill(0).set(visible);
      this.mask.fill(0).fill(1, 0, visible.length);
      const feeds = { tokens: this.window, mask: this.mask, last: Int32Array.of(visible.length - 1) };
      const { logits } = await this.program.run(feeds);
      const next = sample((logits as Float32Array).subarray(0, options.vocabSize), options, random.uniform());
      if (next === options.stopToken) return;
      text.push(next);
      yield next;
    }
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}
