/**
 * Texts in the answer of `/v1/completions`.
 * @module
 */
import type { z } from 'zod';
import type { ModelInfo, PromptRead, TokenProbabilities } from '../../engine-client.js';
import type { completionAnswer } from './answer-schemas.js';
import { answerHead, choiceExtras, type AnswerShape, type Piece, type Wanted } from './answer-shape.js';

type Answer = z.input<typeof completionAnswer>;
type Logprobs = NonNullable<Answer['choices'][number]['logprobs']>;

/** Keeps how far each text has come, as offsets count from its beginning. */
export class CompletionShape implements AnswerShape {
  private readonly head: ReturnType<typeof answerHead<'text_completion'>>;
  private readonly offsets = new Map<number, number>();

  constructor(
    model: ModelInfo,
    private readonly wanted: Wanted,
    private readonly echo: boolean,
  ) {
    this.head = answerHead('cmpl', 'text_completion', model);
  }

  begin(index: number, prompt: PromptRead): Piece | undefined {
    if (!this.echo) return undefined;
    return { index, text: prompt.text ?? '', tokens: [], finish: null, prompt };
  }

  chunk(pieces: readonly Piece[]): Answer {
    return { ...this.head, choices: pieces.map((piece) => this.choice(piece)) };
  }

  whole(pieces: readonly Piece[]): Answer {
    return this.chunk(pieces);
  }

  private choice({ index, text, tokens, finish, prompt }: Piece): Answer['choices'][number] {
    return {
      index,
      text,
      logprobs: this.wanted.logProbabilities ? this.logprobs(index, tokens, prompt) : null,
      finish_reason: finish,
      ...choiceExtras(tokens, this.wanted),
    };
  }

  private logprobs(index: number, tokens: Piece['tokens'], prompt: PromptRead | undefined): Logprobs {
    const told = (prompt?.detail ?? []).map(({ text, probabilities }) => ({ text, probabilities }));
    const added = tokens.map(({ text, probabilities }) => ({
      text: probabilities?.text ?? text,
      probabilities,
    }));
    const logprobs: Logprobs = { tokens: [], token_logprobs: [], top_logprobs: [], text_offset: [] };
    let offset = this.offsets.get(index) ?? 0;
    for (const { text, probabilities } of [...told, ...added]) {
      logprobs.tokens.push(text);
      logprobs.token_logprobs.push(probabilities?.logProbability ?? null);
      logprobs.top_logprobs.push(probabilities ? byText(probabilities) : null);
      logprobs.text_offset.push(offset);
      offset += text.length;
    }
    this.offsets.set(index, offset);
    return logprobs;
  }
}

function byText({ top }: TokenProbabilities): Record<string, number> {
  // Entries, because a token may spell `__proto__`; the first of two that spell the same is the more probable one.
  return Object.fromEntries(top.toReversed().map(({ text, logProbability }) => [text, logProbability]));
}
