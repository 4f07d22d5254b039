/**
 * Any other tokenizer of Hugging Face (WordPiece, Unigram, BPE with normalisers, …) by their own library.
 * @module
 */
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { fingerprintOf } from './fingerprint.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';

/** Runs a `tokenizer.json` with `@huggingface/tokenizers`. */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly fingerprint: string;
  readonly #library: Library;

  constructor(
    readonly file: TokenizerFile,
    readonly special: SpecialTokens,
  ) {
    this.#library = new Library(file, { clean_up_tokenization_spaces: false });
    this.vocabSize = 1 + Math.max(...this.#library.get_vocab().values());
    this.fingerprint = fingerprintOf(file);
  }

  /** @throws RangeError for text that the vocabulary cannot spell and has no unknown token for. */
  encode(text: string): Int32Array {
    const { ids, tokens } = this.#library.encode(text, { add_special_tokens: false });
    const missing = (ids as readonly (number | undefined)[]).indexOf(undefined);
    if (missing >= 0)
      throw new RangeError(`the vocabulary has no token for ${JSON.stringify(tokens[missing])}`);
    return Int32Array.from(ids);
  }

  decode(ids: ArrayLike<number>): string {
    return ids.length === 0 ? '' : this.#library.decode(Array.from(ids), { skip_special_tokens: true });
  }

  toFile(): TokenizerFile {
    return this.file;
  }
}
