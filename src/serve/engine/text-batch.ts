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
  scores: Float32Array = new Float32Array();

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
  /** Most tokens that can be added after a prompt of this length. */
  room(promptLength: number): number;
  /** Ids that the text after a prompt goes on from. */
  before(prompt: readonly number[]): readonly number[];
  /** Bytes of keys and values of a text that ends up with so many tokens. */
  footprint(promptLength: number, added: number): number;
  /** Takes in a text, whose prompt will be read. */
  add(prompt: readonly number[], wishes: TextWishes): ServedText;
  /**
   * Reads on in some prompts, in one pass.
   * @param budget tokens, roughly
   * @returns texts whose prompts have been read with it: their scores are those of their first own token.
   *   Undefined if no prompt waits.
   * @throws PassError of the texts that were in the pass
   */
  readOn(budget: number): Promise<readonly ServedText[] | undefined>;
  /** Another text that goes on from where one is. */
  fork(text: ServedText, wishes: TextWishes): ServedText;
  /**
   * Adds a token to each of these texts and computes the scores after it; the others wait.
   * @throws PassError of the texts whose passes failed; the others have their scores
   */
  write(tokens: ReadonlyMap<ServedText, number>): Promise<void>;
  /** Lets a text go, read or not. */
  remove(text: ServedText): void;
}
