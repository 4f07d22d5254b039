/**
 * SentencePiece vocabularies as a `tokenizer.json`.
 * @module
 */
import { addedToken } from '../byte-tokenizer.js';
import { spacePatterns } from '../normalizers.js';
import type { TokenizerFile } from '../tokenizer.js';
import { pieceTypes, readSentencePieceModel, type SentencePiece } from './sentence-piece-model.js';

/** Stands for a space. */
const SPACE = '\u2581';

/**
 * The `tokenizer.json` of a SentencePiece `.model`, unigram or byte pairs. Control pieces and the unknown piece become
 * special tokens, as Hugging Face has it: `<unk>` that stands in a text is that token, where SentencePiece itself
 * would spell it.
 *
 * @throws RangeError as {@link readSentencePieceModel}.
 */
export function sentencePieceFile(data: Uint8Array): TokenizerFile {
  const { charsmap, ...model } = readSentencePieceModel(data);
  const normalizers: object[] = [];
  if (charsmap.length > 0) {
    normalizers.push({
      type: 'Precompiled',
      precompiled_charsmap: Buffer.from(charsmap).toString('base64'),
    });
  }
  if (model.removesExtraSpaces) {
    normalizers.push(
      { type: 'Replace', pattern: { Regex: spacePatterns.around }, content: '' },
      { type: 'Replace', pattern: { Regex: spacePatterns.runs }, content: ' ' },
    );
  }
  return pieceFile({
    pieces: model.pieces,
    type: model.type,
    unknownId: model.unknownId,
    byteFallback: model.byteFallback,
    normalizers,
    dummyPrefix: model.addsDummyPrefix,
    stripped: model.removesExtraSpaces,
  });
}

/** What {@link pieceFile} needs to know. */
export interface PieceFileOptions {
  readonly pieces: readonly SentencePiece[];
  readonly type: 'unigram' | 'bpe';
  readonly unknownId: number;
  readonly byteFallback: boolean;
  /** Steps before the space marks. */
  readonly normalizers: readonly object[];
  /** Whether a space is put before the text. */
  readonly dummyPrefix: boolean;
  /** Whether `normalizers` take away the spaces around the text, so that it may be empty afterwards. */
  readonly stripped: boolean;
}

/** The `tokenizer.json` of a vocabulary of pieces with scores. */
export function pieceFile(options: PieceFileOptions): TokenizerFile {
  const { pieces, type, unknownId, byteFallback, dummyPrefix, stripped } = options;
  const specialTypes: readonly number[] = [pieceTypes.control, pieceTypes.unknown];
  const added = pieces.flatMap(({ piece, type: kind }, id) => {
    if (specialTypes.includes(kind)) return [addedToken(id, piece)];
    return kind === pieceTypes.userDefined ? [{ ...addedToken(id, piece), special: false }] : [];
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    // Where text that was not empty can become so, the space before it is the pre-tokeniser's, which is not asked
    // then; elsewhere it comes even before a space, which the pre-tokeniser would leave out.
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...options.normalizers,
        ...(dummyPrefix && !stripped ? [{ type: 'Prepend', prepend: SPACE }] : []),
        ...(stripped ? [] : [{ type: 'Replace', pattern: { String: ' ' }, content: SPACE }]),
      ],
    },
    pre_tokenizer: stripped
      ? {
          type: 'Metaspace',
          replacement: SPACE,
          prepend_scheme: dummyPrefix ? 'always' : 'never',
          split: !pieces.some(({ piece }) => /[^\u2581]\u2581/.test(piece)),
        }
      : null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        ...(byteFallback ? [{ type: 'ByteFallback' }] : []),
        { type: 'Fuse' },
        ...(dummyPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model:
      type === 'unigram'
        ? {
            type: 'Unigram',
            unk_id: unknownId,
            vocab: pieces.map(({ piece, score }) => [piece, score]),
            byte_fallback: byteFallback,
          }
        : {
            type: 'BPE',
            dropout: null,
            unk_token: pieces[unknownId].piece,
            continuing_subword_prefix: null,
            end_of_word_suffix: null,
            fuse_unk: true,
            byte_fallback: byteFallback,
            ignore_merges: false,
            vocab: Object.fromEntries(pieces.map(({ piece }, id) => [piece, id])),
            merges: mergesOf(pieces),
          },
  };
}

/**
 * SentencePiece merges the neighbours whose joined piece has the best score; a `tokenizer.json` ranks pairs. Pairs that
 * join to the same piece come one after another, first those with the earlier parts.
 */
function mergesOf(pieces: readonly SentencePiece[]): [left: string, right: string][] {
  const ids = new Map(pieces.map(({ piece }, id) => [piece, id]));
  const mergeable = pieces.filter(
    ({ type }) => type === pieceTypes.normal || type === pieceTypes.userDefined,
  );
  return mergeable
    .toSorted((a, b) => b.score - a.score)
    .flatMap(({ piece }) => {
      const characters = [...piece];
      return characters
        .slice(1)
        .map((_, index): [string, string] => [
          characters.slice(0, index + 1).join(''),
          characters.slice(index + 1).join(''),
        ])
        .filter(([left, right]) => ids.has(left) && ids.has(right))
        .sort(([a, b], [c, d]) => ids.get(a)! - ids.get(c)! || ids.get(b)! - ids.get(d)!);
    });
}
