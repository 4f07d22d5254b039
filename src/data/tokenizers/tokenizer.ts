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

/** T5's name of a sentinel: `<extra_id_0>` stands for the first stretch that is taken out of a text. */
export function sentinelName(index: number): string {
  return `<extra_id_${index}>`;
}

/** Ids of `<extra_id_0>`, `<extra_id_1>` and so on, as many as the tokenizer knows. */
export function sentinelsOf(tokenizer: Tokenizer): number[] {
  const ids: number[] = [];
  for (;;) {
    const [id, ...more] = tokenizer.encode(sentinelName(ids.length));
    if (id === undefined || more.length > 0) return ids;
    ids.push(id);
  }
}

/**
 * The tokens that begin, fill and end the targets of an encoder–decoder. T5 begins with the pad token.
 * @throws RangeError if the tokenizer lacks one.
 */
export function pairTokensOf({ special }: Tokenizer): { readonly pad: number; readonly end: number } {
  if (special.pad === undefined || special.eos === undefined) {
    throw new RangeError(
      `encoder–decoders and classifiers need a tokenizer with ${special.pad === undefined ? 'a pad token' : 'an end token'}: learn one with "tokenizer": {"kind": "bpe", "vocabSize": …, "sentinels": 32}, or name a file`,
    );
  }
  return { pad: special.pad, end: special.eos };
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
