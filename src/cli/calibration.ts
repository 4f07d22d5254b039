/**
 * What a text tells of a model's experts, for the compression methods that ask.
 * @module
 */
import { createReadStream } from 'node:fs';
import { createHash } from 'node:crypto';
import { calibrate, type LayerCalibration } from '../compress/index.js';
import { loadTextModel, runtimeOptions } from '../train/index.js';
import { openSequence } from './eval.js';
import { formatCount, type Progress } from './progress.js';

/** Sequences that are read at once. */
const BATCH_SIZE = 4;

/** A text to calibrate with. */
export interface CalibrationText {
  readonly file: string;
  readonly tokens: number;
  readonly cache: string;
}

/** What makes two calibrations the same: the text by its hash, and how much of it is read. */
export async function describeCalibration({
  file,
  tokens,
}: CalibrationText): Promise<{ readonly sha256: string; readonly tokens: number }> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file)) hash.update(piece as Buffer);
  return { sha256: hash.digest('hex'), tokens };
}

/** Runs a model folder over the text, when first asked. */
export function calibrationOf(
  folder: string,
  layers: readonly string[],
  { file, tokens, cache }: CalibrationText,
  progress: Progress,
): () => Promise<ReadonlyMap<string, LayerCalibration>> {
  const run = async (): Promise<ReadonlyMap<string, LayerCalibration>> => {
    const loaded = await loadTextModel(folder);
    const flags = { data: file, batchSize: BATCH_SIZE, cache };
    const { sequence, close } = await openSequence(folder, loaded, flags);
    try {
      return await calibrate(loaded.model, loaded.weights, layers, sequence, {
        maxTokens: tokens,
        runtime: runtimeOptions({ device: 'cpu', threads: null }),
        onProgress: (done) => progress.update(() => `reading ${file}: ${formatCount(done)} tokens`),
      });
    } finally {
      close();
    }
  };
  let made: ReturnType<typeof run> | undefined;
  return () => (made ??= run());
}
