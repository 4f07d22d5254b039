/**
 * A training small enough for a test: a few thousand parameters on a text in memory.
 * @module
 */
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ByteTokenizer,
  MemoryTokens,
  SequentialWindows,
  ShuffledWindows,
  type OpenData,
} from '../../src/data/index.js';
import { LanguageModel, languageModelSchema } from '../../src/models/index.js';
import { uniformAt } from '../../src/nn/index.js';
import { Trainer, trainSchema, type TrainOptions } from '../../src/train/index.js';

/** What a test may change. */
export interface TinyTraining {
  readonly model?: Readonly<Record<string, unknown>>;
  readonly train?: Readonly<Record<string, unknown>>;
  /** Byte ids of the training text; a text with structure by default. */
  readonly text?: Int32Array;
  readonly validation?: Int32Array;
  readonly contextLength?: number;
  readonly seed?: number;
}

/** A switch layer with noise of both kinds. */
export const noisySwitch = {
  dropout: 0.1,
  sparse: {
    every: 2,
    numExperts: 4,
    router: { kind: 'softmax', jitter: 0.05, balanceCoefficient: 0.02, zLossCoefficient: 0.01 },
  },
} as const;

/** Bytes with some structure to learn: the same for the same key. */
export function tinyText(length: number, key = 1): Int32Array {
  return Int32Array.from({ length }, (_, i) => 97 + ((i * 7 + Math.floor(4 * uniformAt(key, i))) % 26));
}

/** Data over texts in memory. */
export function tinyData(
  text: Int32Array,
  validation: Int32Array,
  shape: { readonly batchSize: number; readonly contextLength: number },
  seed = 1,
): OpenData {
  return {
    tokenizer: new ByteTokenizer(),
    train: new ShuffledWindows(new MemoryTokens(text, 'text'), { ...shape, seed }),
    validation: () => new SequentialWindows(new MemoryTokens(validation, 'validation'), shape),
    provenance: 'a test',
    close: () => undefined,
  };
}

/** Options of the trainer with small defaults: no warm-up, a constant rate. */
export function tinyOptions(train: Readonly<Record<string, unknown>> = {}): TrainOptions {
  return trainSchema.parse({
    batchSize: 4,
    steps: 20,
    schedule: { kind: 'constant', learningRate: 0.01, warmupSteps: 0 },
    ...train,
  });
}

/** A model of two layers. */
export function tinyModel(options: Readonly<Record<string, unknown>> = {}, contextLength = 8): LanguageModel {
  const parsed = languageModelSchema.parse({
    hiddenSize: 16,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 32,
    contextLength,
    ...options,
  });
  return new LanguageModel({ ...parsed, vocabSize: parsed.vocabSize ?? 256 });
}

/** A trainer over all of it. */
export async function tinyTrainer({
  model,
  train,
  text = tinyText(8 * 50 + 1),
  validation = tinyText(100, 2),
  contextLength = 8,
  seed = 1,
}: TinyTraining = {}): Promise<{
  trainer: Trainer;
  data: OpenData;
  options: TrainOptions;
  model: LanguageModel;
}> {
  const options = tinyOptions(train);
  const data = tinyData(text, validation, { batchSize: options.batchSize, contextLength }, seed);
  const built = tinyModel(model, contextLength);
  const trainer = await Trainer.create({ model: built, data, options, seed, padded: false });
  return { trainer, data, options, model: built };
}

/** A fresh folder below the system's temporary one. */
export function temporaryFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'switchyard-train-'));
}
