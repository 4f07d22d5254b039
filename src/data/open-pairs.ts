import type { BatchSequence, BatchShape, PairBatch } from './batches/batch.js';
import { CorruptedSequence, CorruptedWindows } from './batches/corrupted-windows.js';
import { corruptedLengths, windowLength, type SpanCorruptionOptions } from './batches/span-corruption.js';
import { openTextForEvaluation } from './open-evaluation.js';
import { openTextTask } from './open-task.js';
import { openData, type OpenData, type OpenPairsOptions } from './open.js';
import type { DataConfig } from './schema.js';
import { pairTokensOf, sentinelsOf, type Tokenizer } from './tokenizers/tokenizer.js';

/**
 * Opens the data of an encoder–decoder: any text by span corruption, or a task with a target.
 *
 * Windows of a text are as long as T5 makes them: their sources fill `contextLength` as far as they can, and the targets
 * that follow from it are of one length, so that training batches have no padding.
 *
 * @param options.targetLength longest target; default `contextLength`.
 * @throws Error in one clear line as `openData` does; for a tokenizer without sentinels; or where targets do not fit.
 */
export async function openPairs(config: DataConfig, options: OpenPairsOptions): Promise<OpenData<PairBatch>> {
  if (config.kind === 'task') return openTextTask(config, options);
  const spans = config.spanCorruption ?? usualSpans;
  const length = windowOf(options, spans);
  const data = await openData(config, { ...options, contextLength: length });
  try {
    const tokens = corruptionTokens(data.tokenizer);
    const corruption = { ...spans, ...tokens, start: options.start ?? tokens.pad };
    return {
      ...data,
      train: new CorruptedWindows(data.train, { ...corruption, seed: options.seed }),
      validation: () => new CorruptedSequence(data.validation(), corruption),
    };
  } catch (error) {
    data.close();
    throw error;
  }
}

/** T5's. */
const usualSpans: SpanCorruptionOptions = { noiseDensity: 0.15, meanSpanLength: 3 };

/**
 * All of a text in corrupted windows, with the tokenizer of the model: the same at every reading.
 *
 * @param path a UTF-8 text file or a folder of them; all of it is read.
 * @param spans T5's when absent.
 * @throws Error in one clear line as {@link openPairs} does.
 */
export async function openPairsForEvaluation(
  path: string,
  tokenizer: Tokenizer,
  shape: BatchShape & { readonly start?: number },
  cacheFolder: string,
  spans: SpanCorruptionOptions = usualSpans,
): Promise<{ sequence: BatchSequence<PairBatch>; close: () => void }> {
  const tokens = corruptionTokens(tokenizer);
  const windows = { batchSize: shape.batchSize, contextLength: windowOf(shape, spans) };
  const { sequence, close } = await openTextForEvaluation(path, tokenizer, windows, cacheFolder);
  try {
    const corruption = { ...spans, ...tokens, start: shape.start ?? tokens.pad };
    return { sequence: new CorruptedSequence(sequence, corruption), close };
  } catch (error) {
    close();
    throw error;
  }
}

/** Length of the windows whose sources fill a row. @throws RangeError if their targets are too long. */
function windowOf(shape: BatchShape, spans: SpanCorruptionOptions): number {
  const { contextLength, targetLength = contextLength } = shape;
  const length = windowLength(contextLength, spans);
  const { target } = corruptedLengths(length, spans);
  if (target <= targetLength) return length;
  throw new RangeError(
    `span corruption of sources of ${contextLength} tokens makes targets of ${target}, but targetLength is ${targetLength}`,
  );
}

/** @throws RangeError if the tokenizer cannot mark what was taken out. */
function corruptionTokens(tokenizer: Tokenizer): {
  readonly sentinels: readonly number[];
  readonly pad: number;
  readonly end: number;
} {
  const sentinels = sentinelsOf(tokenizer);
  if (sentinels.length > 0) return { sentinels, ...pairTokensOf(tokenizer) };
  throw new RangeError(
    'span corruption needs a tokenizer with sentinels (<extra_id_0>, …): learn one with "tokenizer": {"kind": "bpe", "vocabSize": …, "sentinels": 32}, or name a file',
  );
}
