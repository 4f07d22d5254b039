/**
 * Texts in the answer of `/v1/chat/completions`.
 * @module
 */
import type { z } from 'zod';
import type { ModelInfo, ScoredToken } from '../../engine-client.js';
import type { chatAnswer, chatChunk } from './answer-schemas.js';
import { answerHead, choiceExtras, type AnswerShape, type Piece, type Wanted } from './answer-shape.js';

type Chunk = z.input<typeof chatChunk>;
type Answer = z.input<typeof chatAnswer>;

/** Messages of an assistant, and their pieces. */
export class ChatShape implements AnswerShape {
  private readonly head: ReturnType<typeof answerHead<'chat.completion.chunk'>>;

  constructor(
    model: ModelInfo,
    private readonly wanted: Wanted,
  ) {
    this.head = answerHead('chatcmpl', 'chat.completion.chunk', model);
  }

  begin(index: number): Piece {
    return { index, text: '', tokens: [], finish: null };
  }

  chunk(pieces: readonly Piece[], first: boolean): Chunk {
    const choices = pieces.map((piece) => ({
      ...this.choice(piece),
      delta: {
        ...(first && { role: 'assistant' as const }),
        ...((first || piece.text !== '') && { content: piece.text }),
      },
    }));
    return { ...this.head, choices };
  }

  whole(pieces: readonly Piece[]): Answer {
    const choices = pieces.map((piece) => ({
      ...this.choice(piece),
      message: { role: 'assistant' as const, content: piece.text, refusal: null },
    }));
    return { ...this.head, object: 'chat.completion', choices };
  }

  private choice({ index, tokens, finish }: Piece) {
    const content = tokens.flatMap(({ probabilities }) => {
      if (!probabilities) return [];
      return [{ ...scored(probabilities), top_logprobs: probabilities.top.map(scored) }];
    });
    return {
      index,
      logprobs: this.wanted.logProbabilities && tokens.length > 0 ? { content } : null,
      finish_reason: finish,
      ...choiceExtras(tokens, this.wanted),
    };
  }
}

function scored({ text, logProbability, bytes }: ScoredToken): {
  token: string;
  logprob: number;
  bytes: number[];
} {
  return { token: text, logprob: logProbability, bytes: [...bytes] };
}
