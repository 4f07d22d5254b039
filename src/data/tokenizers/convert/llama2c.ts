/**
 * llama2.c's `tokenizer.bin` as a `tokenizer.json`.
 * @module
 */
import { byteToken } from '../load-piece-tokenizer.js';
import type { TokenizerFile } from '../tokenizer.js';
import { pieceFile } from './sentence-piece.js';
import { pieceTypes, type SentencePiece } from './sentence-piece-model.js';

/** Ids of a llama2.c vocabulary before the 256 bytes. */
const specialPieces = ['<unk>', '<s>', '</s>'] as const;

/**
 * Reads llama2.c's `tokenizer.bin`: int32 length of the longest token, then for each token its float32 score, int32
 * length and bytes, little-endian. Ids 0, 1, 2 are unknown, begin and end; 3 … 258 are bytes; the rest are pieces that
 * are merged by score, as in `encode` of run.c.
 *
 * @throws RangeError in one line for a file that is cut or no such vocabulary.
 */
export function llama2cTokenizerFile(data: Uint8Array): TokenizerFile {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const fail = (why: string): RangeError => new RangeError(`no tokenizer of llama2.c, or a cut one: ${why}`);
  const pieces: SentencePiece[] = [];
  for (let at = 4; at < data.length;) {
    const id = pieces.length;
    if (at + 8 > data.length) throw fail(`token ${id} at byte ${at} is cut`);
    const score = view.getFloat32(at, true);
    const length = view.getInt32(at + 4, true);
    at += 8;
    if (length < 0 || at + length > data.length) throw fail(`token ${id} says that it has ${length} bytes`);
    let text: string;
    try {
      text = decoder.decode(data.subarray(at, at + length));
    } catch (error) {
      throw new RangeError(`token ${id} is not UTF-8`, { cause: error });
    }
    at += length;
    if (!Number.isFinite(score)) throw fail(`the score of token ${id} is ${score}`);
    pieces.push(pieceAt(id, text, score, fail));
  }
  if (pieces.length < 260) throw fail(`it has ${pieces.length} tokens, of which 259 are special or bytes`);
  const twice = new Set<string>();
  for (const { piece } of pieces) {
    if (twice.has(piece)) throw fail(`${JSON.stringify(piece)} comes twice`);
    twice.add(piece);
  }
  const file = pieceFile({
    pieces,
    type: 'bpe',
    unknownId: 0,
    byteFallback: true,
    normalizers: [],
    dummyPrefix: true,
    stripped: false,
  });
  return { ...file, post_processor: beginning };
}

/** llama2.c's models begin every text with token 1. */
const beginning = {
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [
    { SpecialToken: { id: '<s>', type_id: 0 } },
    { Sequence: { id: 'A', type_id: 0 } },
    { Sequence: { id: 'B', type_id: 1 } },
  ],
  special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
};

function pieceAt(id: number, text: string, score: number, fail: (why: string) => Error): SentencePiece {
  if (id < specialPieces.length) {
    // llama2.c writes begin and end with line breaks around them.
    if (text.trim() !== specialPieces[id])
      throw fail(`token ${id} is ${JSON.stringify(text)}, not ${specialPieces[id]}`);
    return { piece: specialPieces[id], score, type: id === 0 ? pieceTypes.unknown : pieceTypes.control };
  }
  const byte = id - specialPieces.length;
  if (byte < 256) {
    if (text !== byteToken(byte))
      throw fail(`token ${id} is ${JSON.stringify(text)}, not ${byteToken(byte)}`);
    return { piece: text, score, type: pieceTypes.byte };
  }
  return { piece: text.replaceAll(' ', '\u2581'), score, type: pieceTypes.normal };
}
