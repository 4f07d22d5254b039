/**
 * How a predictor is trained.
 * @module
 */
import { z } from 'zod';
import { optimizerSchema, trainSchema } from '../../train/index.js';
import { predictorLossSchema } from './losses.js';

const count = z.int().min(1);

/**
 * Options of {@link trainPredictor}. SiDA: AdamW, 5e-5, batches of 64, until it converges (15 to 100 epochs); a higher
 * rate that falls gets there in fewer.
 */
export const predictorTrainSchema = z.strictObject({
  /** Sequences in one batch. */
  batchSize: count.default(64),
  /** Updates of the parameters. */
  steps: count,
  loss: predictorLossSchema.prefault({ kind: 'truncatedDistillation' }),
  optimizer: optimizerSchema.prefault({ kind: 'adamw', beta2: 0.99, weightDecay: 0.01 }),
  schedule: trainSchema.shape.schedule.prefault({ kind: 'cosine', learningRate: 2e-3, warmupSteps: 50 }),
  /** Largest norm of all gradients together; null leaves them as they are. */
  clipNorm: z.number().positive().nullable().default(1),
  seed: z.int().min(0).default(1),
  /** Updates between checkpoints, where they are written. */
  checkpointEvery: count.default(500),
  /** Threads of an operator; one per core when null. */
  threads: count.nullable().default(null),
});

/** Options of {@link trainPredictor}. */
export type PredictorTrainOptions = z.infer<typeof predictorTrainSchema>;
