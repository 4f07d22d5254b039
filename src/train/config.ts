/**
 * The `train` section of a recipe.
 * @module
 */
import { z } from 'zod';
import { devices } from '../runtime/index.js';

const count = z.int().min(1);
const fraction = z.number().min(0).lt(1);

/** Optimiser options by `kind`. */
export const optimizerSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('adamw'),
    beta1: fraction.default(0.9),
    beta2: fraction.default(0.99),
    epsilon: z.number().positive().default(1e-8),
    weightDecay: z.number().min(0).default(0.1),
  }),
  z.strictObject({
    kind: z.literal('sgd'),
    momentum: fraction.default(0.9),
    weightDecay: z.number().min(0).default(0),
  }),
]);

/** Options of the trainer, as they stand in a recipe. */
export const trainSchema = z.strictObject({
  /** Sequences in one batch. */
  batchSize: count,
  /** Updates of the parameters. */
  steps: count,
  /** Batches whose gradients are averaged into one update. */
  accumulation: count.default(1),
  optimizer: optimizerSchema.prefault({ kind: 'adamw' }),
  schedule: z
    .strictObject({
      kind: z.enum(['constant', 'cosine', 'linear', 'inverseSqrt']).default('cosine'),
      learningRate: z.number().positive().default(1e-3),
      warmupSteps: z.int().min(0).default(100),
      finalFraction: z.number().min(0).max(1).default(0.1),
    })
    .prefault({}),
  /** Largest norm of all gradients together; null leaves them as they are. */
  clipNorm: z.number().positive().nullable().default(1),
  evaluation: z
    .strictObject({
      /** Updates between evaluations; one is made at the end in any case. */
      every: count.default(250),
      /** Batches of the validation set that are read; null reads all. */
      maxBatches: count.nullable().default(null),
    })
    .prefault({}),
  checkpoint: z
    .strictObject({
      /** Updates between checkpoints; one is written at the end in any case. */
      every: count.default(500),
      /** Checkpoints kept; older ones are deleted. */
      keep: count.default(2),
    })
    .prefault({}),
  /** Stop after this many evaluations without a better validation loss; null never does. */
  earlyStop: z
    .strictObject({ patience: count.default(3) })
    .nullable()
    .default(null),
  /** Parameters that keep their values: names in which * stands for anything, such as `blocks.0.*`. */
  freeze: z.array(z.string().min(1)).default([]),
  /** Learn from a trained model as well as from the data; null learns from the data alone. */
  distillation: z
    .strictObject({
      /** Folder of the teacher: a model of the same kind with the same vocabulary. */
      teacher: z.string().min(1),
      /** Share of the teacher's opinion in the task loss (Switch §4.2: 0.25). */
      softWeight: z.number().min(0).max(1).default(0.25),
      /** Divides both models' logits before they are compared. */
      temperature: z.number().positive().default(1),
      /** Start with the teacher's weights where names and shapes agree: all but experts and routers. */
      initialize: z.boolean().default(true),
    })
    .nullable()
    .default(null),
  /** Warn when experts die or one takes most tokens. */
  collapseWarning: z.boolean().default(true),
  device: z.enum(devices).default('cpu'),
  /** Threads inside one operator; one per core when null. */
  threads: count.nullable().default(null),
});

/** Parsed form of {@link trainSchema}. */
export type TrainOptions = z.infer<typeof trainSchema>;
