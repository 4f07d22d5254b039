/**
 * WordPiece, SentencePiece's unigram and character-level byte pairs.
 * @module
 */
import { AddedTokens, type AddedTokenEntry } from './added-tokens.js';
import type { DecodeTokens } from './decoders.js';
import { fingerprintOf } from './fingerprint.js';
import type { Normalize } from './normalizers.js';
import type { PieceModel } from './piece-models.js';
import type { CutWords } from './pre-tokenizers.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';
import { WordCache } from './word-cache.js';

/** What {@link PieceTokenizer} is put together from. */
export interface PieceTokenizerParts {
  readonly file: TokenizerFile;
  /** The token of each id. */
  readonly vocabulary: readonly string[];
  readonly special: SpecialTokens;
  readonly added: readonly AddedTokenEntry[];
  readonly normalize: Normalize;
  readonly cut: CutWords;
  readonly model: PieceModel;
  readonly decode: DecodeTokens;
}

/**
 * A tokenizer of pieces. Its ids are those of Hugging Face's Rust library with the same `tokenizer.json`, at the speed
 * that a corpus needs: words are looked up in a cache. `@huggingface/tokenizers` only approximates the character map
 * of SentencePiece and the splitting of CJK characters.
 */
export class PieceTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly special: SpecialTokens;
  readonly fingerprint: string;
  readonly #added: AddedTokens;
  readonly #words: WordCache;

  constructor(private readonly parts: PieceTokenizerParts) {
    this.vocabSize = parts.vocabulary.length;
    this.special = parts.special;
    this.fingerprint = fingerprintOf(parts.file);
    this.#added = new AddedTokens(parts.added);
    this.#words = new WordCache(parts.model);
  }

  /**
   * Ids of a text. Added tokens that stand in the text, such as `[MASK]`, become their id.
   * @throws RangeError for text that the vocabulary cannot spell and has no unknown token for.
   */
  encode(text: string): Int32Array {
    const out: number[] = [];
    this.#added.split(text).forEach((part, index) => {
      if (typeof part === 'number') out.push(part);
      else {
        const normalized = this.parts.normalize(part);
        if (normalized === '') return;
        for (const word of this.parts.cut(normalized, index === 0)) this.#words.push(word, out);
      }
    });
    return Int32Array.from(out);
  }

  decode(ids: ArrayLike<number>): string {
    const tokens: string[] = [];
    for (let i = 0; i < ids.length; i++) {
      const token = this.parts.vocabulary[ids[i]];
      if (token !== undefined && !this.#added.isSpecial(ids[i])) tokens.push(token);
    }
    return this.parts.decode(tokens).join('');
  }

  byteLength(ids: ArrayLike<number>): number {
    return Buffer.byteLength(this.decode(ids));
  }

  toFile(): TokenizerFile {
    return this.parts.file;
  }
}
