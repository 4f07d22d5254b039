/**
 * Any other tokenizer of Hugging Face (WordPiece, Unigram, BPE with normalisers, …) by their own library.
 * @module
 */
import { Tokenizer as Untyped } from '@huggingface/tokenizers';
import { fingerprintOf } from './fingerprint.js';
import { TimeLimitError, withinTime } from './time-limit.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';

/** What we use of the library; its own declarations refer to files that it does not ship. */
interface Library {
  get_vocab(): Map<string, number>;
  encode(text: string, options: object): { ids: (number | undefined)[]; tokens: string[] };
  decode(ids: number[], options: object): string;
}
const LibraryTokenizer = Untyped as unknown as new (file: TokenizerFile, options: object) => Library;

/** Time that any text may take, and any character more; the library encodes a character in about a microsecond. */
const MILLISECONDS = 5_000;
const MILLISECONDS_PER_CHARACTER = 0.05;

/**
 * Runs a `tokenizer.json` with `@huggingface/tokenizers`. Regular expressions in it may be such that they take for ever on
 * a short text; where it has any, calls are cut off after a while.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly fingerprint: string;
  readonly #library: Library;
  readonly #patterns: readonly string[];

  /** @param milliseconds that a call may take where the file has regular expressions, before its text is counted. */
  constructor(
    readonly file: TokenizerFile,
    readonly special: SpecialTokens,
    private readonly milliseconds = MILLISECONDS,
  ) {
    this.#patterns = patternsOf([file['normalizer'], file['pre_tokenizer'], file['decoder']]);
    // Added tokens are normalised here.
    this.#library = this.guarded(
      JSON.stringify(file['added_tokens'] ?? []).length,
      () => new LibraryTokenizer(file, { clean_up_tokenization_spaces: false }),
    );
    let last = -1;
    for (const id of this.#library.get_vocab().values()) last = Math.max(last, id);
    this.vocabSize = last + 1;
    this.fingerprint = fingerprintOf(file);
  }

  /**
   * @throws RangeError for text that the vocabulary cannot spell and has no unknown token for, or that a regular
   *   expression of the file does not get through.
   */
  encode(text: string): Int32Array {
    const { ids, tokens } = this.guarded(text.length, () =>
      this.#library.encode(text, { add_special_tokens: false }),
    );
    return Int32Array.from(ids, (id, index) => {
      if (id !== undefined) return id;
      throw new RangeError(`the vocabulary has no token for ${JSON.stringify(tokens[index])}`);
    });
  }

  decode(ids: ArrayLike<number>): string {
    if (ids.length === 0) return '';
    return this.guarded(ids.length, () =>
      this.#library.decode(Array.from(ids), { skip_special_tokens: true }),
    );
  }

  byteLength(ids: ArrayLike<number>): number {
    return Buffer.byteLength(this.decode(ids));
  }

  toFile(): TokenizerFile {
    return this.file;
  }

  private guarded<Result>(length: number, run: () => Result): Result {
    if (this.#patterns.length === 0) return run();
    const limit = Math.ceil(this.milliseconds + length * MILLISECONDS_PER_CHARACTER);
    try {
      return withinTime(limit, run);
    } catch (error) {
      if (!(error instanceof TimeLimitError)) throw error;
      const shown = this.#patterns.map((pattern) => JSON.stringify(pattern.slice(0, 60))).slice(0, 3);
      throw new RangeError(
        `a text of ${length} characters ${error.message}; a pattern of the tokenizer may be catastrophic: ${shown.join(', ')}`,
        { cause: error },
      );
    }
  }
}

/** All regular expressions in a part of a file. */
function patternsOf(part: unknown): string[] {
  if (typeof part !== 'object' || part === null) return [];
  return Object.entries(part).flatMap(([key, value]) =>
    key === 'Regex' && typeof value === 'string' ? [value] : patternsOf(value),
  );
}
