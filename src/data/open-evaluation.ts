/**
 * Opens one text to measure a finished model on.
 * @module
 */
import type { BatchSequence, BatchShape } from './batches/batch.js';
import { SequentialWindows } from './batches/sequential-windows.js';
import { StreamSequence } from './batches/stream-windows.js';
import { findText } from './text/text-corpus.js';
import { openTokens } from './text/token-file.js';
import type { Tokenizer } from './tokenizers/tokenizer.js';

/**
 * All of a text, in consecutive windows, with the tokenizer of the model.
 *
 * @param path a UTF-8 text file or a folder of them; all of it is read.
 * @param order `stream` for models with a memory: each row goes on where the same row of the batch before ended.
 * @throws Error in one clear line where the text is missing, empty, not UTF-8, or has no token to predict.
 */
export async function openTextForEvaluation(
  path: string,
  tokenizer: Tokenizer,
  shape: BatchShape,
  cacheFolder: string,
  order: 'sequential' | 'stream' = 'sequential',
): Promise<{ sequence: BatchSequence; close: () => void }> {
  const { validation } = await findText(path, path);
  const tokens = await openTokens(validation, tokenizer, cacheFolder);
  if (tokens.length < 2) {
    tokens.close();
    throw new RangeError(`${path} has ${tokens.length} tokens: nothing can be predicted`);
  }
  const Sequence = order === 'stream' ? StreamSequence : SequentialWindows;
  const sequence = new Sequence(tokens, { ...shape, pad: tokenizer.special.pad ?? 0 });
  return { sequence, close: () => tokens.close() };
}
