/**
 * Options of encoder–decoder models, as they stand in a recipe.
 * @module
 */
import { z } from 'zod';
import { activationSchema, placementProblem, sparseSchema } from '../moe/index.js';
import { initializationSchema } from './language-model-options.js';

const size = z.int().min(1);
const rate = z.number().min(0).lt(1);

/**
 * Options of an encoder–decoder. T5 and Switch: relative positions, `norm: rms`, `attentionScale: 1`,
 * `scaleLogits: true`, `finalDropout: true`. fairseq: sinusoidal positions, `norm: layer`, `bias: true`,
 * `scaleEmbeddings: true`, `activationDropout: 0`.
 */
export const encoderDecoderSchema = z
  .strictObject({
    kind: z.literal('encoderDecoder'),
    /** Taken from the tokenizer when absent; sources and targets share it. */
    vocabSize: size.optional(),
    hiddenSize: size,
    numEncoderLayers: size,
    numDecoderLayers: size,
    numHeads: size,
    /** hiddenSize / numHeads when absent; T5's heads need not fill the hidden size. */
    headSize: size.optional(),
    /** Width of the dense feed-forward layers. */
    intermediateSize: size,
    activation: activationSchema.default('relu'),
    /** Longest source. */
    contextLength: size,
    /** Longest target; contextLength when absent. */
    targetLength: size.optional(),
    /** `relative`: one table a stack, read by the self-attention of all its blocks (T5). */
    positions: z.enum(['relative', 'learned', 'sinusoidal', 'none']).default('relative'),
    norm: z.enum(['rms', 'layer']).default('rms'),
    /** What norms add before the root; 1e-6 for `rms` and 1e-5 for `layer` when absent. */
    normEpsilon: z.number().positive().optional(),
    bias: z.boolean().default(false),
    /** Factor on attention scores; 1 / √headSize when null. T5 uses 1. */
    attentionScale: z.number().positive().nullable().default(null),
    /** Whether the output reads the table of the embedding. Source and target share that table in any case. */
    tieEmbeddings: z.boolean().default(true),
    /** Multiply embeddings by √hiddenSize. */
    scaleEmbeddings: z.boolean().default(false),
    /** Multiply what the output layer reads by 1 / √hiddenSize (T5 with tied embeddings). */
    scaleLogits: z.boolean().default(false),
    /** After the embedding and each sub-layer. */
    dropout: rate.default(0),
    /** Whether there is dropout behind each stack's last norm as well (T5). */
    finalDropout: z.boolean().default(false),
    /** Inside dense feed-forward layers; as `dropout` when absent. */
    activationDropout: rate.optional(),
    /** On attention probabilities; expensive, so off unless asked for. */
    attentionDropout: rate.default(0),
    initialization: initializationSchema.prefault({}),
    /** Sparse layers; `every` places them alike in encoder and decoder. Absent or null: a dense model. */
    sparse: sparseSchema.nullable().default(null),
  })
  .superRefine((options, context) => {
    const refuse = (path: readonly string[], message: string): void =>
      context.addIssue({ code: 'custom', path: [...path], message });
    const { hiddenSize, numHeads, headSize, sparse, positions, numEncoderLayers, numDecoderLayers } = options;
    if (headSize === undefined && hiddenSize % numHeads !== 0) {
      refuse(
        ['hiddenSize'],
        `hiddenSize ${hiddenSize} is not divisible by numHeads ${numHeads}; change one, or set headSize`,
      );
    }
    if (positions === 'sinusoidal' && hiddenSize % 2 !== 0) {
      refuse(['hiddenSize'], `sinusoidal positions need an even hiddenSize, not ${hiddenSize}`);
    }
    const problem = sparse && placementProblem(sparse, [numEncoderLayers, numDecoderLayers]);
    if (problem) refuse(['sparse', problem.key], problem.message);
  });

/** Options with the vocabulary known. */
export type EncoderDecoderOptions = z.infer<typeof encoderDecoderSchema> & { readonly vocabSize: number };
