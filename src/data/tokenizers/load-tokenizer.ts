/**
 * Reads a `tokenizer.json`.
 * @module
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { byteCharacters } from './byte-alphabet.js';
import { BytePairTokenizer } from './byte-level-bpe.js';
import { CharacterTokenizer, characterSplit } from './character-tokenizer.js';
import { convertTokenizer, isForeignVocabulary } from './convert/convert-tokenizer.js';
import { HuggingFaceTokenizer } from './hugging-face-tokenizer.js';
import { pieceTokenizer } from './load-piece-tokenizer.js';
import type { SpecialTokens, Tokenizer } from './tokenizer.js';

const addedTokenSchema = z.looseObject({
  id: z.int().nonnegative(),
  content: z.string().min(1),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  special: z.boolean().default(false),
});
const fileSchema = z.looseObject({
  added_tokens: z.array(addedTokenSchema).default([]),
  normalizer: z.looseObject({ type: z.string() }).nullish(),
  pre_tokenizer: z.looseObject({ type: z.string() }).nullish(),
  post_processor: z.looseObject({ type: z.string() }).nullish(),
  decoder: z.looseObject({ type: z.string() }).nullish(),
  model: z.looseObject({ type: z.string().optional(), unk_token: z.string().nullish() }),
});
type File = z.output<typeof fileSchema>;

const mergeSchema = z.union([
  z.string().refine((merge) => merge.split(' ').length === 2, 'a merge is two tokens with one space between'),
  z.tuple([z.string(), z.string()]),
]);
const bytePairModelSchema = z.looseObject({
  vocab: z.record(z.string(), z.int().nonnegative()),
  merges: z.array(mergeSchema),
});

/** Bytes of the largest file that is read, twice the largest known: ten million tokens would take gigabytes as objects. */
const MAX_BYTES = 64_000_000;

/** Names of special tokens, most usual first; GPT-2 begins and ends a text with the same token. */
const usualNames: Record<keyof SpecialTokens, readonly string[]> = {
  pad: ['<|pad|>', '<pad>', '[PAD]'],
  bos: ['<|bos|>', '<s>', '<bos>', '<|begin_of_text|>', '[CLS]', '<|endoftext|>'],
  eos: ['<|eos|>', '</s>', '<eos>', '<|end_of_text|>', '[SEP]', '<|endoftext|>'],
  unknown: ['<unk>', '[UNK]'],
};

/**
 * Reads a tokenizer from a `tokenizer.json`, or from a vocabulary that {@link convertTokenizer} reads. Byte-level BPE,
 * characters, WordPiece and SentencePiece run here; all others run in `@huggingface/tokenizers`. Special tokens are those that `tokenizer_config.json` beside the file names, or those
 * with usual names.
 *
 * @throws Error in one line that names the file, the key and what is wrong.
 */
export function loadTokenizer(path: string): Tokenizer {
  const json = readFile(path);
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) throw invalid(path, parsed.error);
  const file = parsed.data;
  const special = specialTokens(file, path);
  const isBpe = file.model.type === 'BPE';
  if (isBpe && (isPlainByteLevel(file) || isCharacterSplit(file))) {
    const model = bytePairModelSchema.safeParse(file.model);
    if (!model.success) throw invalid(path, model.error, 'model');
    try {
      return isCharacterSplit(file)
        ? characterTokenizer(file, model.data)
        : bytePairTokenizer(file, model.data, special);
    } catch (error) {
      throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
    }
  }
  let known: Tokenizer | undefined;
  try {
    known = pieceTokenizer(json as Record<string, unknown>, special);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
  if (known) return known;
  if (isBpe) checkMerges(file.model, path);
  try {
    return new HuggingFaceTokenizer(json as Record<string, unknown>, special);
  } catch (error) {
    throw new Error(`${path}: @huggingface/tokenizers refuses it: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The library takes a merge of tokens that do not exist, and fails on the first text that has them. */
function checkMerges(json: File['model'], path: string): void {
  const parsed = bytePairModelSchema.safeParse(json);
  if (!parsed.success) throw invalid(path, parsed.error, 'model');
  const { vocab, merges, continuing_subword_prefix: prefix } = parsed.data;
  const skipped = typeof prefix === 'string' ? prefix.length : 0;
  merges.forEach((merge, index) => {
    const [left, right] = (typeof merge === 'string' ? merge.split(' ') : merge) as [string, string];
    const missing = [left, right, left + right.slice(skipped)].find((token) => !Object.hasOwn(vocab, token));
    if (missing !== undefined)
      throw new Error(`${path}: model.merges.${index}: ${JSON.stringify(missing)} is not in the vocabulary`);
  });
}

function readFile(path: string): unknown {
  const bytes = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (bytes > MAX_BYTES)
    throw new Error(`${path} has ${bytes} bytes; of a tokenizer at most ${MAX_BYTES} are read`);
  return isForeignVocabulary(path) && existsSync(path) ? convertTokenizer(path) : readJson(path);
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT'
        ? 'there is no such file'
        : code === 'EISDIR'
          ? 'it is a folder; name the tokenizer.json in it'
          : code;
    throw new Error(`cannot read tokenizer ${path}: ${why}`, { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}

function invalid(path: string, error: z.ZodError, prefix?: string): Error {
  const issue = error.issues[0];
  const key = [...(prefix ? [prefix] : []), ...issue.path].join('.') || 'the file';
  return new Error(`${path} is not a tokenizer.json: ${key}: ${issue.message}`);
}

/** The vocabulary as a list, checked to number its tokens 0 … n − 1 together with the added ones. */
function vocabularyOf(file: File, vocab: Readonly<Record<string, number>>): string[] {
  const tokens: string[] = [];
  const put = (token: string, id: number): void => {
    if (tokens[id] !== undefined && tokens[id] !== token) {
      throw new RangeError(
        `id ${id} stands for both ${JSON.stringify(tokens[id])} and ${JSON.stringify(token)}`,
      );
    }
    tokens[id] = token;
  };
  const count = new Set([...Object.values(vocab), ...file.added_tokens.map((token) => token.id)]).size;
  for (const [token, id] of [
    ...Object.entries(vocab),
    ...file.added_tokens.map((t) => [t.content, t.id] as const),
  ]) {
    if (id >= count)
      throw new RangeError(
        `id ${id} (${JSON.stringify(token)}) is too large: there are ${count} ids, and they must be 0 to ${count - 1}`,
      );
    put(token, id);
  }
  return tokens;
}

/** Whether the file is exactly what {@link BytePairTokenizer} does. */
function isPlainByteLevel(file: File): boolean {
  const { model, pre_tokenizer: cut } = file;
  const plainAdded = file.added_tokens.every((token) => !token.single_word && !token.lstrip && !token.rstrip);
  return (
    !file.normalizer &&
    cut?.type === 'ByteLevel' &&
    cut['add_prefix_space'] === false &&
    cut['use_regex'] !== false &&
    file.decoder?.type === 'ByteLevel' &&
    !model['continuing_subword_prefix'] &&
    !model['end_of_word_suffix'] &&
    !model['byte_fallback'] &&
    !model['ignore_merges'] &&
    !model['dropout'] &&
    plainAdded
  );
}

function isCharacterSplit(file: File): boolean {
  const { merges } = file.model as { merges?: unknown };
  return (
    !file.normalizer &&
    JSON.stringify(file.pre_tokenizer) === JSON.stringify(characterSplit) &&
    file.decoder?.type === 'Fuse' &&
    Array.isArray(merges) &&
    merges.length === 0
  );
}

function characterTokenizer(file: File, model: z.output<typeof bytePairModelSchema>): CharacterTokenizer {
  const tokens = vocabularyOf(file, model.vocab);
  const unknown = file.model.unk_token;
  if (unknown == null) return new CharacterTokenizer(tokens);
  if (tokens.at(-1) !== unknown)
    throw new RangeError(`model.unk_token ${JSON.stringify(unknown)} must be the last token`);
  return new CharacterTokenizer(tokens.slice(0, -1), { unknown: true });
}

function bytePairTokenizer(
  file: File,
  model: z.output<typeof bytePairModelSchema>,
  special: SpecialTokens,
): BytePairTokenizer {
  const vocabulary = vocabularyOf(file, model.vocab);
  const ids = new Map(Object.entries(model.vocab));
  const added = new Set(file.added_tokens.map((token) => token.content));
  const spelt = new Set(byteCharacters);
  for (const token of ids.keys()) {
    if (!added.has(token) && ![...token].every((character) => spelt.has(character))) {
      throw new RangeError(`model.vocab: ${JSON.stringify(token)} is not spelt in the byte alphabet`);
    }
  }
  const idOf = (token: string, merge: number): number => {
    const id = ids.get(token);
    if (id === undefined)
      throw new RangeError(`model.merges.${merge}: ${JSON.stringify(token)} is not in the vocabulary`);
    return id;
  };
  const merges = model.merges.map((merge, index) => {
    const [left, right] = (typeof merge === 'string' ? merge.split(' ') : merge) as [string, string];
    return [idOf(left, index), idOf(right, index), idOf(left + right, index)] as const;
  });
  return new BytePairTokenizer({ vocabulary, merges, added: file.added_tokens, special });
}

function specialTokens(file: File, path: string): SpecialTokens {
  const vocab = (file.model as { vocab?: unknown }).vocab;
  const ids = new Map<string, number>(
    vocab && typeof vocab === 'object' && !Array.isArray(vocab)
      ? Object.entries(vocab as Record<string, number>)
      : [],
  );
  if (Array.isArray(vocab))
    (vocab as readonly [string, number][]).forEach(([token], id) => ids.set(token, id));
  for (const token of file.added_tokens) ids.set(token.content, token.id);
  const configPath = join(dirname(path), 'tokenizer_config.json');
  const config = existsSync(configPath) ? (readJson(configPath) as Record<string, unknown>) : {};
  const find = (kind: keyof SpecialTokens, key: string): { [K in keyof SpecialTokens]?: number } => {
    const named = config[key] as string | { content?: string } | null | undefined;
    const content = typeof named === 'string' ? named : named?.content;
    const isAdded = (name: string): boolean => file.added_tokens.some((token) => token.content === name);
    const names = content
      ? [content]
      : kind === 'unknown' && file.model.unk_token
        ? [file.model.unk_token]
        : usualNames[kind].filter(isAdded);
    const id = names.map((name) => ids.get(name)).find((found) => found !== undefined);
    return id === undefined ? {} : { [kind]: id };
  };
  return {
    ...find('pad', 'pad_token'),
    ...find('bos', 'bos_token'),
    ...find('eos', 'eos_token'),
    ...find('unknown', 'unk_token'),
  };
}
