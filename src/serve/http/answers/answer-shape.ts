/**
 * How written texts are put into an answer, whole or in chunks.
 * @module
 */
import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import type { ModelInfo, PromptRead, TokenAdded } from '../../engine-client.js';
import type { completionAnswer } from './answer-schemas.js';

/** What goes beyond OpenAI's API in an answer. */
export type AnswerExtras = z.input<typeof completionAnswer>['switchyard'];

/** What goes beyond it in one text of an answer. */
export type ChoiceExtras = z.input<typeof completionAnswer>['choices'][number]['switchyard'];

/** Tokens that were read and written. */
export type Usage = NonNullable<z.input<typeof completionAnswer>['usage']>;

/** Why a text ended; null while it has not. */
export type Finish = 'stop' | 'length' | null;

/** What requests asked to be told beyond the text. */
export interface Wanted {
  readonly logProbabilities: boolean;
  readonly tokenIds: boolean;
  readonly routedExperts: boolean;
}

/** A text, or a part of it. */
export interface Piece {
  readonly index: number;
  readonly text: string;
  readonly tokens: readonly TokenAdded[];
  readonly finish: Finish;
  /** Where the text begins with its prompt. */
  readonly prompt?: PromptRead;
}

/** Puts texts into one kind of answer. */
export interface AnswerShape {
  /** What a text begins with in a stream; undefined for nothing. */
  begin(index: number, prompt: PromptRead): Piece | undefined;
  /** A chunk of a stream. */
  chunk(pieces: readonly Piece[], first: boolean): Readonly<Record<string, unknown>>;
  /** A whole answer without its usage. */
  whole(pieces: readonly Piece[]): Readonly<Record<string, unknown>>;
}

/** What every answer of a kind begins with. */
export function answerHead<Kind extends string>(prefix: string, object: Kind, { name }: ModelInfo) {
  return {
    id: `${prefix}-${randomUUID().replaceAll('-', '')}`,
    object,
    created: Math.floor(Date.now() / 1000),
    model: name,
  };
}

/** Ids and experts of tokens, where they were asked for. */
export function choiceExtras(
  tokens: readonly TokenAdded[],
  { tokenIds, routedExperts }: Wanted,
): { switchyard?: ChoiceExtras } {
  if (!tokenIds && !routedExperts) return {};
  return {
    switchyard: {
      ...(tokenIds && { token_ids: tokens.map(({ id }) => id) }),
      ...(routedExperts && { routed_experts: tokens.map(({ routing = [] }) => mutable(routing)) }),
    },
  };
}

/** Layers, and of each prompt its tokens' experts, where they were asked for. */
export function answerExtras(
  { routedLayers }: ModelInfo,
  prompts: readonly PromptRead[],
  { tokenIds, routedExperts }: Wanted,
): { switchyard?: AnswerExtras } {
  if (!tokenIds && !routedExperts) return {};
  return {
    switchyard: {
      ...(prompts.length === 1 && { seed: prompts[0].seed }),
      ...(routedExperts && { layers: routedLayers.map(layerAnswer) }),
      prompts: prompts.map(({ tokens, detail, routing }) => ({
        tokens,
        ...(tokenIds && detail && { token_ids: detail.map(({ id }) => id) }),
        ...(routedExperts && { routed_experts: (routing ?? []).map(mutable) }),
      })),
    },
  };
}

/** A routing layer in the API's words. */
export function layerAnswer({ name, numExperts, topK }: ModelInfo['routedLayers'][number]): {
  name: string;
  num_experts: number;
  top_k: number;
} {
  return { name, num_experts: numExperts, top_k: topK };
}

/** The same numbers as the types of answers want them. */
export function mutable(routing: readonly (readonly number[])[]): number[][] {
  return routing as number[][];
}
