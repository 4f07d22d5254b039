/**
 * Vocabularies in older formats as a `tokenizer.json`.
 * @module
 */
import { readFileSync } from 'node:fs';
import { extname } from 'node:path';
import type { TokenizerFile } from '../tokenizer.js';
import { llama2cTokenizerFile } from './llama2c.js';
import { sentencePieceFile } from './sentence-piece.js';
import { wordPieceFile } from './word-piece.js';

const converters: Readonly<Record<string, (bytes: Buffer) => TokenizerFile>> = {
  '.txt': (bytes) => wordPieceFile(bytes.toString('utf8')),
  '.model': sentencePieceFile,
  '.bin': llama2cTokenizerFile,
};

/** Whether a path names a vocabulary that {@link convertTokenizer} reads. */
export function isForeignVocabulary(path: string): boolean {
  return extname(path) in converters;
}

/**
 * A WordPiece `vocab.txt`, SentencePiece `.model` or llama2.c `.bin` as a `tokenizer.json`.
 *
 * @throws Error in one line that names the file.
 */
export function convertTokenizer(path: string): TokenizerFile {
  const convert = converters[extname(path)];
  if (!convert)
    throw new Error(
      `${path}: no vocabulary that can be converted; expected a WordPiece .txt, SentencePiece .model or llama2.c .bin`,
    );
  const bytes = readFileSync(path);
  try {
    return convert(bytes);
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}
