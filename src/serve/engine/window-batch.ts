/**
 * Texts of a language model that needs every text in one piece: the whole window is computed for every token.
 * @module
 */
import type { Pass, Passes } from '../../decode/index.js';
import { cast, input } from '../../graph/index.js';
import type { LanguageModel } from '../../models/index.js';
import { computeEach, computeFor } from './pass-error.js';
import type { RoutingTap } from './routing-tap.js';
import { ServedText, type TextBatch, type TextWishes } from './text-batch.js';

/** Texts take turns. The trace of a token is that of the pass in which it came last. */
export class WindowBatch implements TextBatch {
  private readonly waiting: ServedText[] = [];
  private readonly tokens = new Map<ServedText, number[]>();

  constructor(
    private readonly model: LanguageModel,
    private readonly passes: Passes,
    private readonly tap: RoutingTap,
  ) {}

  get maxPrompt(): number {
    return this.model.windowLength - 1;
  }

  room(promptLength: number): number {
    return this.model.windowLength - promptLength;
  }

  before(prompt: readonly number[]): readonly number[] {
    return prompt;
  }

  footprint(promptLength: number, added: number): number {
    return 4 * (promptLength + added);
  }

  /** Compiles the pass. */
  async open(): Promise<this> {
    await this.pass(false);
    return this;
  }

  add(prompt: readonly number[], wishes: TextWishes): ServedText {
    const text = new ServedText(prompt, wishes);
    this.waiting.push(text);
    return text;
  }

  async readOn(): Promise<readonly ServedText[] | undefined> {
    const text = this.waiting.shift();
    if (!text) return undefined;
    this.tokens.set(text, [...text.prompt]);
    await computeFor([text], () => this.compute(text, 0));
    text.read = text.prompt.length;
    return [text];
  }

  fork(text: ServedText, wishes: TextWishes): ServedText {
    const copy = new ServedText(text.prompt, wishes);
    copy.read = text.read;
    copy.scores = text.scores;
    this.tokens.set(copy, [...this.tokens.get(text)!]);
    return copy;
  }

  async write(tokens: ReadonlyMap<ServedText, number>): Promise<void> {
    await computeEach(tokens, async ([text, token]) => {
      const all = this.tokens.get(text)!;
      all.push(token);
      await computeFor([text], () => this.compute(text, all.length - 1));
    });
  }

  remove(text: ServedText): void {
    this.tokens.delete(text);
    const at = this.waiting.indexOf(text);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  /** @param from first token whose experts, and scores where they are wished, are told */
  private async compute(text: ServedText, from: number): Promise<void> {
    const { windowLength } = this.model;
    const { onScores, onRouting } = text.wishes;
    const all = this.tokens.get(text)!;
    const scoreAll = from === 0 && onScores !== undefined;
    const pass = await this.pass(scoreAll);
    const [tokens, mask] = [new Int32Array(windowLength), new Uint8Array(windowLength)];
    tokens.set(all);
    mask.fill(1, 0, all.length);
    const last = Int32Array.of(all.length - 1);
    const results = await pass.run({ tokens, mask, ...(scoreAll ? {} : { last }) });
    const logits = results['logits'] as Float32Array;
    const width = logits.length / (scoreAll ? windowLength : 1);
    for (let position = from; position < all.length; position++) {
      if (scoreAll) onScores(position, logits.subarray(position * width, (position + 1) * width));
      onRouting?.(this.tap.read(results, position));
    }
    // Several texts share the pass, whose next run overwrites these.
    const row = scoreAll ? all.length - 1 : 0;
    text.scores = logits.slice(row * width, (row + 1) * width);
  }

  private pass(scoreAll: boolean): Promise<Pass> {
    return this.passes.get(`window with experts${scoreAll ? ' and all scores' : ''}`, (context) => {
      const { windowLength } = this.model;
      const { logits, records } = this.model.forward(
        {
          tokens: input('tokens', 'int32', [1, windowLength]),
          mask: cast(input('mask', 'bool', [1, windowLength]), 'float32'),
          ...(scoreAll ? {} : { logitRows: input('last', 'int32', [1]) }),
        },
        context,
      );
      return { logits, ...this.tap.outputs(records) };
    });
  }
}
