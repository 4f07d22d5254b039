/**
 * The one interface that the engine knows: texts of many requests that are read in parts and grow together.
 * @module
 */
import type { TokenRouting } from '../engine-client.js';
import type { Lane, Seat } from './lane.js';

/** What is wanted of a text besides the scores after its last token. */
export interface TextWishes {
  /** Told what may come after every token of the prompt. Overwritten by the next pass. */
  readonly onScores?: ((position: number, scores: Float32Array) => void) | undefined;
  /** Told the experts of every token that a pass computes, in their order. */
  readonly onRouting?: ((routing: TokenRouting) => void) | undefined;
}

/** A text of a batch. */
export class ServedText implements Seat<ServedText> {
  lane: Lane<ServedText> | undefined = undefined;
  row = -1;
  /** Tokens of the prompt that have been read. */
  read = 0;
  /** Scores of the next token, `[vocabSize]`. Overwritten by the next pass. */
  scores = new Float32Array();

  /** @param prompt of an encoder–decoder, the source */
  constructor(
    readonly prompt: readonly number[],
    readonly wishes: TextWishes = {},
  ) {}
}

/** Texts under way. One call at a time. */
export interface TextBatch {
  /** Most tokens that a prompt may have. */
  readonly maxPrompt: number;
  /** Most tokens that a text may have: with its prompt, where it begins with that. */
  readonly maxLength: number;
  /** Whether texts begin with their prompts. */
  readonly continues: boolean;
  /** Numbers in memory for a text that ends up with so many tokens. */
  footprint(promptLength: number, added: number): number;
  /** Takes in a text, whose prompt will be read. */
  add(prompt: readonly number[], wishes: TextWishes): ServedText;
  /**
   * Reads on in some prompts, in one pass.
   * @param budget tokens, roughly
   * @returns texts whose prompts have been read with it: their scores are those of their first own token.
   */
  readOn(budget: number): Promise<readonly ServedText[]>;
  /** Another text that goes on from where one is. */
  fork(text: ServedText, wishes: TextWishes): ServedText;
  /** Adds a token to each of these texts and computes the scores after it; the others wait. */
  write(tokens: ReadonlyMap<ServedText, number>): Promise<void>;
  /** Lets a text go, read or not. */
  remove(text: ServedText): void;
}
