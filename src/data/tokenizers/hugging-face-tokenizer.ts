/**
 * Any other tokenizer of Hugging Face (WordPiece, Unigram, BPE with normalisers, …) by their own library.
 * @module
 */
import { Tokenizer as Untyped } from '@huggingface/tokenizers';
import { fingerprintOf } from './fingerprint.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';

/** What we use of the library; its own declarations refer to files that it does not ship. */
interface Library {
  get_vocab(): Map<string, number>;
  encode(text: string, options: object): { ids: (number | undefined)[]; tokens: string[] };
  decode(ids: number[], options: object): string;
}
const LibraryTokenizer = Untyped as unknown as new (file: TokenizerFile, options: object) => Library;

/** Runs a `tokenizer.json` with `@huggingface/tokenizers`. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly fingerprint: string;
  readonly #library: Library;

  constructor(
    readonly file: TokenizerFile,
    readonly special: SpecialTokens,
  ) {
    this.#library = new LibraryTokenizer(file, { clean_up_tokenization_spaces: false });
    this.vocabSize = 1 + Math.max(...this.#library.get_vocab().values());
    this.fingerprint = fingerprintOf(file);
  }

  /** @throws RangeError for text that the vocabulary cannot spell and has no unknown token for. */
  encode(text: string): Int32Array {
    const { ids, tokens } = this.#library.encode(text, { add_special_tokens: false });
    return Int32Array.from(ids, (id, index) => {
      if (id !== undefined) return id;
      throw new RangeError(`the vocabulary has no token for ${JSON.stringify(tokens[index])}`);
    });
  }

  decode(ids: ArrayLike<number>): string {
    return ids.length === 0 ? '' : this.#library.decode(Array.from(ids), { skip_special_tokens: true });
  }

  byteLength(ids: ArrayLike<number>): number {
    return Buffer.byteLength(this.decode(ids));
  }

  toFile(): TokenizerFile {
    return this.file;
  }
}
