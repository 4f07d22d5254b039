import { createHash, randomBytes } from 'node:crypto';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TokenizerConfig } from '../schema.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import { CharacterSet, CharacterTokenizer } from './character-tokenizer.js';
import { loadTokenizer } from './load-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import { WordCounter, type TrainBytePairOptions } from './train-byte-level-bpe.js';

/** The text that a vocabulary is learnt from. */
export interface TokenizerText {
  /** Text for byte-pair encoding, in pieces cut at white space. */
  readonly trainingText: () => AsyncIterable<string> | Iterable<string>;
  /** Text whose characters make the vocabulary of a character tokenizer. */
  readonly characters: () => AsyncIterable<string> | Iterable<string>;
  /** Whether there will be more text than `characters`, so that a token for unknown ones is needed. */
  readonly endless: boolean;
  /** Names the text. */
  readonly fingerprint: string;
}

/** Text that a byte-pair vocabulary is learnt from, at most, in characters. More hardly changes the merges. */
const longestTraining = 64 << 20;

/**
 * Makes the tokenizer that a recipe asks for. A vocabulary that must be learnt is kept in the cache folder as
 * `tokenizer-….json`.
 * @throws as {@link loadTokenizer}, and RangeError if the text is too short for the vocabulary.
 */
export async function openTokenizer(
  config: TokenizerConfig,
  text: TokenizerText,
  cacheFolder: string,
): Promise<Tokenizer> {
  if (config.kind === 'byte') return new ByteTokenizer(config);
  if (config.kind === 'file') return loadTokenizer(config.path);
  const key = createHash('sha256')
    .update(JSON.stringify([1, config, text.fingerprint, text.endless]))
    .digest('hex');
  const path = join(cacheFolder, `tokenizer-${key.slice(0, 32)}.json`);
  if (existsSync(path)) return loadTokenizer(path);
  const tokenizer = config.kind === 'bpe' ? await learnPairs(config, text) : await collectCharacters(text);
  await mkdir(cacheFolder, { recursive: true });
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  await writeFile(temporary, JSON.stringify(tokenizer.toFile()));
  await rename(temporary, path);
  return tokenizer;
}

async function learnPairs(options: TrainBytePairOptions, text: TokenizerText): Promise<Tokenizer> {
  const words = new WordCounter();
  let length = 0;
  for await (const piece of text.trainingText()) {
    words.add(piece);
    length += piece.length;
    if (length >= longestTraining) break;
  }
  return words.train(options);
}

async function collectCharacters(text: TokenizerText): Promise<Tokenizer> {
  const characters = new CharacterSet();
  for await (const piece of text.characters()) characters.add(piece);
  return new CharacterTokenizer(characters.sorted(), { unknown: text.endless });
}
