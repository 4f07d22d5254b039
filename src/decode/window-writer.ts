/**
 * The plain way to write: the whole window is computed again for every token. For models that need a text in one piece.
 * @module
 */
import { cast, input } from '../graph/index.js';
import type { LanguageModel } from '../models/index.js';
import { evaluationContext } from '../nn/index.js';
import type { RuntimeOptions } from '../runtime/index.js';
import { checkPrompts, type GrowingTexts, type TextWriter } from './growing-texts.js';
import { Programs } from './programs.js';

/** Writes with a language model without a cache. Texts of a batch take turns. */
export class WindowWriter implements TextWriter {
  private readonly programs: Programs;

  /** @param weights every parameter of the model by name */
  constructor(
    private readonly model: LanguageModel,
    weights: ReadonlyMap<string, Float32Array>,
    runtime: RuntimeOptions = {},
  ) {
    this.programs = new Programs(weights, runtime);
  }

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
    await this.programs.release();
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

  private program(): ReturnType<Programs['get']> {
    return this.programs.get('window', () => {
      // With a memory: as many tokens as it and a segment hold, as one segment.
      const { windowLength } = this.model;
      const tokens = input('tokens', 'int32', [1, windowLength]);
      const mask = cast(input('mask', 'bool', [1, windowLength]), 'float32');
      const logitRows = input('last', 'int32', [1]);
      return { logits: this.model.forward({ tokens, mask, logitRows }, evaluationContext()).logits };
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
