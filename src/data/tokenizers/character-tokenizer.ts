/**
 * Characters as tokens.
 * @module
 */
import { addedToken } from './byte-tokenizer.js';
import { fingerprintOf } from './fingerprint.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';

/** Content of the token for characters outside the vocabulary. */
export const unknownContent = '<unk>';
/** Cuts a text into characters in a `tokenizer.json`. */
export const characterSplit = {
  type: 'Split',
  pattern: { Regex: '[\\s\\S]' },
  behavior: 'Isolated',
  invert: false,
} as const;

/** Collects the distinct characters of a text that comes in pieces. */
export class CharacterSet {
  readonly #characters = new Set<string>();

  add(text: string): void {
    for (const character of text) this.#characters.add(character);
  }

  /** The characters in the order of their code points. */
  sorted(): string[] {
    return [...this.#characters].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!);
  }
}

/**
 * One id for each character of a fixed list, in the order of the list, as nanoGPT's Shakespeare. A character is a
 * Unicode code point.
 *
 * @example
 * const tokenizer = CharacterTokenizer.of('to be');
 * tokenizer.encode('bob'); // Int32Array [1, 3, 1]: the characters are ' ', 'b', 'e', 'o', 't'
 */
export class CharacterTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly special: SpecialTokens;
  readonly fingerprint: string;
  readonly #ids: ReadonlyMap<string, number>;

  /**
   * @param characters distinct characters; their order numbers them.
   * @param options.unknown whether one more id, the last, stands for all other characters; default false.
   * @throws RangeError for an empty list, or an entry that is not one character or comes twice.
   */
  constructor(
    readonly characters: readonly string[],
    options: { readonly unknown?: boolean } = {},
  ) {
    if (characters.length === 0) throw new RangeError('a character vocabulary needs at least one character');
    this.#ids = new Map(characters.map((character, id) => [character, id]));
    const wrong = characters.find((entry, id) => [...entry].length !== 1 || this.#ids.get(entry) !== id);
    if (wrong !== undefined)
      throw new RangeError(`${JSON.stringify(wrong)} is not one character, or comes twice`);
    this.vocabSize = characters.length + (options.unknown ? 1 : 0);
    this.special = options.unknown ? { unknown: characters.length } : {};
    this.fingerprint = fingerprintOf(this.toFile());
  }

  /** The tokenizer of the distinct characters of a text. */
  static of(text: string, options: { readonly unknown?: boolean } = {}): CharacterTokenizer {
    const set = new CharacterSet();
    set.add(text);
    return new CharacterTokenizer(set.sorted(), options);
  }

  /** @throws RangeError that names a character outside the vocabulary, unless there is a token for unknown ones. */
  encode(text: string): Int32Array {
    const out = new Int32Array(text.length);
    let length = 0;
    for (const character of text) {
      const id = this.#ids.get(character) ?? this.special.unknown;
      if (id === undefined) {
        const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
        throw new RangeError(
          `character ${JSON.stringify(character)} (U+${code}) is not among the ${this.characters.length} of the vocabulary`,
        );
      }
      out[length++] = id;
    }
    return out.slice(0, length);
  }

  /** Unknown characters come back as U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    let text = '';
    for (let i = 0; i < ids.length; i++) {
      text += this.characters[ids[i]] ?? '\uFFFD';
    }
    return text;
  }

  byteLength(ids: ArrayLike<number>): number {
    return Buffer.byteLength(this.decode(ids));
  }

  toFile(): TokenizerFile {
    const { unknown } = this.special;
    const tokens = unknown === undefined ? this.characters : [...this.characters, unknownContent];
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: unknown === undefined ? [] : [addedToken(unknown, unknownContent)],
      normalizer: null,
      pre_tokenizer: characterSplit,
      post_processor: null,
      decoder: { type: 'Fuse' },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: unknown === undefined ? null : unknownContent,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: [],
      },
    };
  }
}
