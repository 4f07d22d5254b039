/**
 * Bytes as tokens: no vocabulary to learn, no text it cannot spell.
 * @module
 */
import { byteCharacters } from './byte-alphabet.js';
import { fingerprintOf } from './fingerprint.js';
import type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizer.js';

/** Content of the special tokens of {@link ByteTokenizer}, in the order of their ids from 256. */
const specialNames = ['<|pad|>', '<|bos|>', '<|eos|>'] as const;

/** An entry of `added_tokens` in a `tokenizer.json`. */
export function addedToken(id: number, content: string): Readonly<Record<string, unknown>> {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}

/** The parts of a `tokenizer.json` that are alike for all byte-level tokenizers. */
export const byteLevelParts = {
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: null,
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
} as const;

/**
 * UTF-8 bytes as ids 0 … 255, and if wanted three more: 256 pad, 257 begin of text, 258 end of text.
 *
 * @example
 * new ByteTokenizer().encode('né'); // Int32Array [110, 195, 169]
 */
export class ByteTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly special: SpecialTokens;
  readonly fingerprint: string;
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  /** @param options.specialTokens whether ids 256 to 258 exist; default false, a vocabulary of exactly 256. */
  constructor(options: { readonly specialTokens?: boolean } = {}) {
    this.vocabSize = options.specialTokens ? 259 : 256;
    this.special = options.specialTokens ? { pad: 256, bos: 257, eos: 258 } : {};
    this.fingerprint = fingerprintOf(this.toFile());
  }

  encode(text: string): Int32Array {
    return Int32Array.from(this.#encoder.encode(text));
  }

  decode(ids: ArrayLike<number>): string {
    return this.#decoder.decode(Uint8Array.from(Array.from(ids).filter((id) => id < 256)));
  }

  byteLength(ids: ArrayLike<number>): number {
    let bytes = 0;
    for (let i = 0; i < ids.length; i++) if (ids[i] < 256) bytes++;
    return bytes;
  }

  toFile(): TokenizerFile {
    const specials = this.special.pad === undefined ? [] : specialNames;
    return {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specials.map((content, index) => addedToken(256 + index, content)),
      ...byteLevelParts,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries([...byteCharacters, ...specials].map((token, id) => [token, id])),
        merges: [],
      },
    };
  }
}
