/**
 * What every tokenizer offers.
 * @module
 */

/** Ids that stand for no text. A tokenizer may lack any of them. */
export interface SpecialTokens {
  readonly pad?: number;
  /** Begins a text. */
  readonly bos?: number;
  /** Ends a text. */
  readonly eos?: number;
  readonly unknown?: number;
}

/** A `tokenizer.json` of Hugging Face, as parsed JSON. */
export type TokenizerFile = Readonly<Record<string, unknown>>;

/** Turns text into ids and back. */
export interface Tokenizer {
  /** Ids are 0 … `vocabSize` − 1. */
  readonly vocabSize: number;
  readonly special: SpecialTokens;
  /**
   * Hash of everything that decides the ids: equal fingerprints give equal ids for every text.
   */
  readonly fingerprint: string;
  /** Ids of a text. Adds no special token. */
  encode(text: string): Int32Array;
  /** Text of ids. Special tokens are left out, and bytes that are no UTF-8 become U+FFFD. */
  decode(ids: ArrayLike<number>): string;
  /** UTF-8 bytes of text that the ids stand for, also where they begin or end within a character. */
  byteLength(ids: ArrayLike<number>): number;
  /** The same tokenizer as a `tokenizer.json` that Hugging Face's libraries read. */
  toFile(): TokenizerFile;
}

/**
 * The id that separates lines: the end-of-text token where there is one, otherwise the newline.
 * @throws RangeError if the tokenizer has neither.
 */
export function separatorOf(tokenizer: Tokenizer): number {
  if (tokenizer.special.eos !== undefined) return tokenizer.special.eos;
  const newline = tokenizer.encode('\n');
  if (newline.length === 1) return newline[0];
  throw new RangeError(
    'the tokenizer has no end-of-text token and no single token for a newline: lines cannot be separated',
  );
}
