/**
 * `switchyard report` about compressed models.
 * @module
 */
import { loadTextModel, Evaluator, runtimeOptions } from '../train/index.js';
import { readCompressionNumbers, weightBytes } from '../compress/index.js';
import { shapeOf } from '../data/index.js';
import type { CompressionReport } from '../report/index.js';
import { openSequence } from './eval.js';
import { modelFolderOf } from './model-folder-of.js';

/** Sequences that are read at once. */
const BATCH_SIZE = 8;

/** What losses are measured on. */
export interface MeasuredText {
  readonly file: string | undefined;
  readonly tokens: number;
  readonly cache: string;
}

/**
 * The numbers of a report about compressed models; an original may stand beside them.
 * @param names one for each folder.
 */
export async function compressionReport(
  folders: readonly string[],
  names: readonly string[],
  text: MeasuredText,
): Promise<CompressionReport> {
  const models: CompressionReport['models'][number][] = [];
  for (const [i, path] of folders.entries()) {
    const folder = modelFolderOf(path);
    models.push({
      name: names[i],
      bytes: await weightBytes(folder),
      loss: text.file === undefined ? null : await lossOf(folder, text, text.file),
      compression: (await readCompressionNumbers(folder)) ?? null,
    });
  }
  return { version: 1, data: text.file ?? null, models };
}

async function lossOf(folder: string, { tokens, cache }: MeasuredText, data: string): Promise<number> {
  const loaded = await loadTextModel(folder);
  const { sequence, close } = await openSequence(folder, loaded, { data, batchSize: BATCH_SIZE, cache });
  try {
    const runtime = runtimeOptions({ device: 'cpu', threads: null });
    const evaluator = await Evaluator.create(loaded.model, loaded.weights, shapeOf(sequence), runtime);
    const batches = Math.ceil(tokens / (BATCH_SIZE * loaded.model.options.contextLength));
    const { loss } = await evaluator
      .evaluate(sequence, loaded.tokenizer, batches)
      .finally(() => evaluator.release());
    return loss;
  } finally {
    close();
  }
}
