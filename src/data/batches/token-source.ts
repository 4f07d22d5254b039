/**
 * Tokens by range, wherever they lie.
 * @module
 */

/** A long sequence of tokens that is read by range. */
export interface TokenSource {
  /** Number of tokens. */
  readonly length: number;
  /** Hash of the tokens, or of what decides them: a saved position names it. */
  readonly fingerprint: string;
  /** Copies the tokens from `start` up to `end` (excluded) to `out`, from index `at` on. */
  read(start: number, end: number, out: Int32Array, at: number): void;
  /** Copies the languages of the same tokens, where they are known. */
  readLanguages?(start: number, end: number, out: Int32Array, at: number): void;
}

/** Tokens in memory. */
export class MemoryTokens implements TokenSource {
  readonly length: number;
  readLanguages?: (start: number, end: number, out: Int32Array, at: number) => void;

  /** @throws RangeError if there are languages, but not one for each token. */
  constructor(
    readonly tokens: Int32Array | Uint16Array | Uint32Array,
    readonly fingerprint: string,
    languages?: Int32Array,
  ) {
    this.length = tokens.length;
    if (!languages) return;
    if (languages.length !== tokens.length) {
      throw new RangeError(`${tokens.length} tokens need as many languages, not ${languages.length}`);
    }
    this.readLanguages = (start, end, out, at) => out.set(languages.subarray(start, end), at);
  }

  read(start: number, end: number, out: Int32Array, at: number): void {
    out.set(this.tokens.subarray(start, end), at);
  }
}

/**
 * Checks that a source can fill one window: `contextLength` tokens and the one that follows.
 * @throws RangeError that names both numbers.
 */
export function checkLength(source: TokenSource, contextLength: number, name = 'the corpus'): void {
  if (source.length > contextLength) return;
  throw new RangeError(
    `${name} has ${source.length} tokens, but a context of ${contextLength} needs at least ${contextLength + 1}: ` +
      'give more text or a shorter context',
  );
}
