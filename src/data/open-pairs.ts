import { CorruptedSequence, CorruptedWindows } from './batches/corrupted-windows.js';
import type { PairBatch } from './batches/batch.js';
import { corruptedLengths, windowLength } from './batches/span-corruption.js';
import { openTextTask } from './open-task.js';
import { openData, type OpenData, type OpenDataOptions } from './open.js';
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
export async function openPairs(config: DataConfig, options: OpenDataOptions): Promise<OpenData<PairBatch>> {
  if (config.kind === 'task') return openTextTask(config, options);
  const { noiseDensity = 0.15, meanSpanLength = 3 } = config.spanCorruption ?? {};
  const spans = { noiseDensity, meanSpanLength };
  const { contextLength, targetLength = contextLength } = options;
  const length = windowLength(contextLength, spans);
  const { target } = corruptedLengths(length, spans);
  if (target > targetLength) {
    throw new RangeError(
      `span corruption of sources of ${contextLength} tokens makes targets of ${target}, but targetLength is ${targetLength}`,
    );
  }
  const data = await openData(config, { ...options, contextLength: length });
  try {
    const corruption = { ...spans, ...corruptionTokens(data.tokenizer) };
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
