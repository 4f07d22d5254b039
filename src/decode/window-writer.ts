/**
 * The plain way to write: the whole window is computed again for every token. For models that need a text in one piece.
 * @module
 */
import { cast, input } from '../graph/index.js';
import type { LanguageModel } from '../models/index.js';
import { checkPrompts, type GrowingTexts, type TextWriter } from './growing-texts.js';
import type { Pass, Passes } from './programs.js';

/** Writes with a language model without a cache. Texts of a batch take turns. */
export class WindowWriter implements TextWriter {
  /** @param passes over the weights of the model; released with the writer */
  constructor(
    private readonly model: LanguageModel,
    private readonly passes: Passes,
  ) {}

  /** Compiles the pass. */
  async open(): Promise<this> {
    await this.program();
    return this;
  }

  async begin(prompts: readonly ArrayLike<number>[]): Promise<GrowingTexts> {
    checkPrompts(prompts);
    const texts = new WindowTexts(prompts, (text) => this.score(text));
    await texts.append([]);
    return texts;
  }

  async release(): Promise<void> {
    await this.passes.release();
  }

  /** Scores after the last `windowLength` tokens of a text, with whose first one positions begin. */
  private async score(text: readonly number[]): Promise<Float32Array> {
    const program = await this.program();
    const { windowLength } = this.model;
    const visible = text.slice(-windowLength);
    const [tokens, mask] = [new Int32Array(windowLength), new Uint8Array(windowLength)];
    tokens.set(visible);
    mask.fill(1, 0, visible.length);
    const { logits } = await program.run({ tokens, mask, last: Int32Array.of(visible.length - 1) });
    return (logits as Float32Array).slice();
  }

  private program(): Promise<Pass> {
    return this.passes.get('window', (context) => {
      // With a memory: as many tokens as it and a segment hold, as one segment.
      const { windowLength } = this.model;
      const tokens = input('tokens', 'int32', [1, windowLength]);
      const mask = cast(input('mask', 'bool', [1, windowLength]), 'float32');
      const logitRows = input('last', 'int32', [1]);
      return { logits: this.model.forward({ tokens, mask, logitRows }, context).logits };
    });
  }
}

class WindowTexts implements GrowingTexts {
  readonly tokens: number[][];
  readonly scores: Float32Array[] = [];
  readonly maxLength = Infinity;

  constructor(
    prompts: readonly ArrayLike<number>[],
    private readonly score: (text: readonly number[]) => Promise<Float32Array>,
  ) {
    this.tokens = prompts.map((prompt) => Array.from(prompt));
  }

  /** An empty list adds nothing and scores all. */
  async append(tokens: readonly (number | undefined)[]): Promise<void> {
    for (const [text, ids] of this.tokens.entries()) {
      const token = tokens[text];
      if (token === undefined && tokens.length > 0) continue;
      if (token !== undefined) ids.push(token);
      this.scores[text] = await this.score(ids);
    }
  }

  select(texts: readonly number[]): void {
    const before = [...this.tokens];
    texts.forEach((from, to) => (this.tokens[to] = [...before[from]]));
  }
}
