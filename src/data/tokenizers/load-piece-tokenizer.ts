/**
 * Recognises the `tokenizer.json` files that {@link PieceTokenizer} can run.
 * @module
 */
import { z } from 'zod';
import type { AddedTokenEntry } from './added-tokens.js';
import { decoderOf } from './decoders.js';
import { normalizerOf } from './normalizers.js';
import { characterPairs, unigram, wordPiece, type Fallback, type PieceModel } from './piece-models.js';
import { PieceTokenizer } from './piece-tokenizer.js';
import { cutterOf, type CutWords } from './pre-tokenizers.js';
import type { SpecialTokens, TokenizerFile } from './tokenizer.js';

const id = z.int().nonnegative();
const wordPieceSchema = z.object({
  type: z.literal('WordPiece'),
  vocab: z.record(z.string(), id),
  unk_token: z.string(),
  continuing_subword_prefix: z.string().default('##'),
  max_input_chars_per_word: z.int().positive().default(100),
});
const unigramSchema = z.object({
  type: z.literal('Unigram'),
  vocab: z.array(z.tuple([z.string(), z.number()])).min(1),
  unk_id: id.nullish(),
  byte_fallback: z.boolean().default(false),
});
const empty = z.literal('').nullish();
const pairsSchema = z.object({
  type: z.literal('BPE'),
  vocab: z.record(z.string(), id),
  merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  unk_token: z.string().nullish(),
  fuse_unk: z.boolean().default(false),
  byte_fallback: z.boolean().default(false),
  continuing_subword_prefix: empty,
  end_of_word_suffix: empty,
  dropout: z.null().optional(),
  ignore_merges: z.literal(false).optional(),
});
const modelSchema = z.discriminatedUnion('type', [wordPieceSchema, unigramSchema, pairsSchema]);

const addedSchema = z
  .array(
    z
      .object({
        id,
        content: z.string().min(1),
        special: z.boolean().default(false),
        single_word: z.literal(false).optional(),
        lstrip: z.literal(false).optional(),
        rstrip: z.literal(false).optional(),
        normalized: z.boolean().optional(),
      })
      // Matched in the text as it was given; special tokens are, unless they say otherwise.
      .refine(({ special, normalized }) => !(normalized ?? !special)),
  )
  .default([]);

/** Stands for a space in the vocabularies of SentencePiece. */
const SPACE = '\u2581';

/**
 * The tokenizer of a file whose parts are all known here, undefined otherwise.
 *
 * @throws RangeError in one line for a vocabulary with holes, a merge of unknown tokens or a damaged character map.
 */
export function pieceTokenizer(file: TokenizerFile, special: SpecialTokens): PieceTokenizer | undefined {
  const parsedModel = modelSchema.safeParse(file['model']);
  const parsedAdded = addedSchema.safeParse(file['added_tokens']);
  const normalize = normalizerOf(file['normalizer']);
  const cut = cutterOf(file['pre_tokenizer']);
  const decode = decoderOf(file['decoder']);
  if (!parsedModel.success || !parsedAdded.success || !normalize || !cut || !decode) return undefined;
  const model = parsedModel.data;
  const vocabulary = numberTokens(model.vocab, parsedAdded.data);
  return new PieceTokenizer({
    file,
    vocabulary,
    special,
    added: parsedAdded.data,
    normalize,
    cut: model.type === 'WordPiece' ? cut : cutAtSpaces(cut, vocabulary, parsedAdded.data),
    model: modelOf(model),
    decode,
  });
}

/** The token of each id, checked to be numbered without holes and twice by none. */
function numberTokens(
  vocab: Readonly<Record<string, number>> | readonly (readonly [string, number])[],
  added: readonly AddedTokenEntry[],
): string[] {
  const entries = Array.isArray(vocab)
    ? (vocab as readonly (readonly [string, number])[]).map(([token], index) => [token, index] as const)
    : Object.entries(vocab as Record<string, number>);
  const all = [...entries, ...added.map(({ content, id: number }) => [content, number] as const)];
  const count = new Set(all.map(([, number]) => number)).size;
  const tokens: string[] = [];
  for (const [token, number] of all) {
    if (number >= count)
      throw new RangeError(
        `id ${number} (${JSON.stringify(token)}) is too large: there are ${count} ids, and they must be 0 to ${count - 1}`,
      );
    if (tokens[number] !== undefined && tokens[number] !== token)
      throw new RangeError(
        `id ${number} stands for both ${JSON.stringify(tokens[number])} and ${JSON.stringify(token)}`,
      );
    tokens[number] = token;
  }
  return tokens;
}

/**
 * Where no piece has a space inside or at its end, and the space itself is a piece, no piece crosses the begin of a
 * word: words can be encoded alone, and looked up, with the ids of the whole.
 */
function cutAtSpaces(
  cut: CutWords,
  vocabulary: readonly string[],
  added: readonly AddedTokenEntry[],
): CutWords {
  const skipped = new Set(added.map(({ content }) => content));
  const crosses = vocabulary.some((piece) => /[^\u2581]\u2581/.test(piece) && !skipped.has(piece));
  if (crosses || !vocabulary.includes(SPACE)) return cut;
  return (text, isFirst) =>
    cut(text, isFirst).flatMap((word) => word.match(/\u2581*[^\u2581]+|\u2581+/g) ?? []);
}

function modelOf(model: z.output<typeof modelSchema>): PieceModel {
  if (model.type === 'Unigram') {
    const { vocab, unk_id, byte_fallback } = model;
    if (unk_id != null && unk_id >= vocab.length)
      throw new RangeError(`model.unk_id ${unk_id} is not among the ${vocab.length} pieces`);
    const ids = new Map(vocab.map(([piece], index) => [piece, index]));
    return unigram(vocab, fallbackOf(ids, unk_id ?? undefined, true, byte_fallback));
  }
  const ids = new Map(Object.entries(model.vocab));
  const idOf = (token: string, place: string): number => {
    const found = ids.get(token);
    if (found === undefined)
      throw new RangeError(`${place}: ${JSON.stringify(token)} is not in the vocabulary`);
    return found;
  };
  if (model.type === 'WordPiece') {
    return wordPiece({
      ids,
      unknown: idOf(model.unk_token, 'model.unk_token'),
      continuingPrefix: model.continuing_subword_prefix,
      longestWord: model.max_input_chars_per_word,
    });
  }
  let size = 0;
  for (const number of ids.values()) size = Math.max(size, number + 1);
  const ranks = new Map<number, number>();
  const merged = model.merges.map((merge, rank) => {
    const parts = typeof merge === 'string' ? merge.split(' ') : merge;
    if (parts.length !== 2)
      throw new RangeError(`model.merges.${rank}: a merge is two tokens with one space between`);
    const [left, right] = parts as [string, string];
    const place = `model.merges.${rank}`;
    ranks.set(idOf(left, place) * size + idOf(right, place), rank);
    return idOf(left + right, place);
  });
  const unknown = model.unk_token == null ? undefined : idOf(model.unk_token, 'model.unk_token');
  return characterPairs(
    ids,
    { size, ranks, merged },
    fallbackOf(ids, unknown, model.fuse_unk, model.byte_fallback),
  );
}

/** Bytes are used only if the vocabulary has them all. */
function fallbackOf(
  ids: ReadonlyMap<string, number>,
  unknown: number | undefined,
  fuses: boolean,
  byBytes: boolean,
): Fallback {
  const bytes = Array.from({ length: 256 }, (_, byte) => ids.get(byteToken(byte)));
  const isComplete = bytes.every((each) => each !== undefined);
  return { unknown, fuses, bytes: byBytes && isComplete ? bytes : undefined };
}

/** How vocabularies spell a byte: `<0x0A>`. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}
