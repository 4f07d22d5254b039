/**
 * The one interface that generation knows: texts that grow token by token, and the scores of what may come next.
 * @module
 */

/** Texts of one batch while they are written. Several batches of one writer may be under way, one pass at a time. */
export interface GrowingTexts {
  /** Tokens of every text so far, the prompt (or a decoder's first token) included. */
  readonly tokens: readonly (readonly number[])[];
  /** Scores of the next token of every text, `[vocabSize]` each. Overwritten by the next pass. */
  readonly scores: readonly Float32Array[];
  /** Most tokens that a text may have. */
  readonly maxLength: number;
  /** Adds a token to every text and computes the scores after it; undefined to texts that are finished. */
  append(tokens: readonly (number | undefined)[]): Promise<void>;
  /** Text i goes on from where text `texts[i]` is: beams that survive, some of them twice. */
  select(texts: readonly number[]): void;
}

/** A model that texts can be written with. */
export interface TextWriter {
  /**
   * Begins a batch of texts.
   * @param prompts each at least one id
   */
  begin(prompts: readonly ArrayLike<number>[]): Promise<GrowingTexts>;
  /** Frees its sessions. */
  release(): Promise<void>;
}

/** @throws RangeError if there is no prompt, or one has no token; the message says which. */
export function checkPrompts(prompts: readonly ArrayLike<number>[]): void {
  if (prompts.length === 0)
    throw new RangeError('there is no prompt: generation needs something to continue');
  const empty = prompts.findIndex(({ length }) => length === 0);
  if (empty < 0) return;
  const which = prompts.length === 1 ? 'the prompt' : `prompt ${empty}`;
  throw new RangeError(`${which} has no token: generation needs something to continue`);
}

/** The least of `least`, 2 · `least`, 4 · `least` … that holds `length`, or `most`: so few sizes serve all. */
export function bucket(length: number, least: number, most: number): number {
  let size = least;
  while (size < length) size *= 2;
  return Math.min(size, most);
}
