/**
 * Options of encoder–decoder models, as they stand in a recipe.
 * @module
 */
import { z } from 'zod';
import { activationSchema, placementProblem, sparseSchema, type SparsePlacement } from '../moe/index.js';
import { initializationSchema } from './language-model-options.js';

const size = z.int().min(1);
const rate = z.number().min(0).lt(1);
const tokenId = z.int().min(0).optional();

/** Settings of T5's relative positions. */
const relativeSchema = z.strictObject({
  /** Distances that have a bias of their own or share one; encoders spend half on each direction. */
  numBuckets: z.int().min(4).default(32),
  /** Keys at this distance and beyond share a bucket. */
  maxDistance: size.default(128),
});

/** Options that every model with an encoder of this kind has. */
export const stackFields = {
  /** Taken from the tokenizer when absent; sources and targets share it. */
  vocabSize: size.optional(),
  hiddenSize: size,
  numEncoderLayers: size,
  numHeads: size,
  /** hiddenSize / numHeads when absent; T5's heads need not fill the hidden size. */
  headSize: size.optional(),
  /** Width of the dense feed-forward layers. */
  intermediateSize: size,
  activation: activationSchema.default('relu'),
  /** Longest source. */
  contextLength: size,
  /** `relative`: one table a stack, read by the self-attention of all its blocks (T5). */
  positions: z.enum(['relative', 'learned', 'sinusoidal', 'none']).default('relative'),
  /** Settings of `relative` positions. */
  relative: relativeSchema.optional(),
  norm: z.enum(['rms', 'layer']).default('rms'),
  /** What norms add before the root; 1e-6 for `rms` and 1e-5 for `layer` when absent. */
  normEpsilon: z.number().positive().optional(),
  bias: z.boolean().default(false),
  /** Factor on attention scores; 1 / √headSize when null. T5 uses 1. */
  attentionScale: z.number().positive().nullable().default(null),
  /** Multiply embeddings by √hiddenSize. */
  scaleEmbeddings: z.boolean().default(false),
  /** After the embedding and each sub-layer. */
  dropout: rate.default(0),
  /** Whether there is dropout behind each stack's last norm as well (T5). */
  finalDropout: z.boolean().default(false),
  /** Inside dense feed-forward layers; as `dropout` when absent. */
  activationDropout: rate.optional(),
  /** On attention probabilities; expensive, so off unless asked for. */
  attentionDropout: rate.default(0),
  initialization: initializationSchema.prefault({}),
  /**
   * Sparse layers; `every` places them alike in encoder and decoder, `layers` counts through both. Absent or null: a
   * dense model.
   */
  sparse: sparseSchema.nullable().default(null),
  /** Token that fills up short sequences; the tokenizer's when absent. T5: 0. */
  padTokenId: tokenId,
  /** Token that ends a text; the tokenizer's when absent. T5: 1. */
  eosTokenId: tokenId,
  /** First token that the decoder reads; padTokenId when absent, as T5 has it. */
  decoderStartTokenId: tokenId,
};

/** What {@link refuseUnfitStacks} looks at. */
interface StackSizes {
  readonly vocabSize?: number | undefined;
  readonly hiddenSize: number;
  readonly numHeads: number;
  readonly headSize?: number | undefined;
  readonly positions: string;
  readonly relative?: { readonly numBuckets: number; readonly maxDistance: number } | undefined;
  readonly numEncoderLayers: number;
  readonly numDecoderLayers: number;
  readonly sparse: SparsePlacement | null;
  readonly padTokenId?: number | undefined;
  readonly eosTokenId?: number | undefined;
  readonly decoderStartTokenId?: number | undefined;
}

/** Refuses options of encoder and decoder that do not fit each other, where they stand. */
export function refuseUnfitStacks(options: StackSizes, context: z.RefinementCtx): void {
  const refuse = (path: readonly string[], message: string): void =>
    context.addIssue({ code: 'custom', path: [...path], message });
  const { hiddenSize, numHeads, headSize, sparse, positions, relative } = options;
  if (headSize === undefined && hiddenSize % numHeads !== 0) {
    refuse(
      ['hiddenSize'],
      `hiddenSize ${hiddenSize} is not divisible by numHeads ${numHeads}; change one, or set headSize`,
    );
  }
  if (positions === 'sinusoidal' && hiddenSize % 2 !== 0) {
    refuse(['hiddenSize'], `sinusoidal positions need an even hiddenSize, not ${hiddenSize}`);
  }
  if (relative && positions !== 'relative') {
    refuse(['relative'], `${positions} positions have no buckets: leave relative out, or use relative`);
  }
  if (relative && relative.maxDistance <= relative.numBuckets / 2) {
    const { numBuckets, maxDistance } = relative;
    refuse(
      ['relative', 'maxDistance'],
      `maxDistance ${maxDistance} is not beyond the ${numBuckets / 2} distances that have a bucket of their own`,
    );
  }
  const stacks = [options.numEncoderLayers, options.numDecoderLayers];
  const problem = sparse && placementProblem(sparse, stacks);
  if (problem) refuse(['sparse', problem.key], problem.message);
  for (const key of ['padTokenId', 'eosTokenId', 'decoderStartTokenId'] as const) {
    const { vocabSize = Infinity, [key]: id = 0 } = options;
    if (id >= vocabSize) refuse([key], `${key} ${id} is not in a vocabulary of ${vocabSize}`);
  }
}

/**
 * Options of an encoder–decoder. T5 and Switch: relative positions, `norm: rms`, `attentionScale: 1`,
 * `scaleLogits: true`, `finalDropout: true`. fairseq: sinusoidal positions, `norm: layer`, `bias: true`,
 * `scaleEmbeddings: true`, `activationDropout: 0`.
 */
export const encoderDecoderSchema = z
  .strictObject({
    kind: z.literal('encoderDecoder'),
    ...stackFields,
    numDecoderLayers: size,
    /** Longest target; contextLength when absent. */
    targetLength: size.optional(),
    /** Whether the output reads the table of the embedding. Source and target share that table in any case. */
    tieEmbeddings: z.boolean().default(true),
    /** Multiply what the output layer reads by 1 / √hiddenSize (T5 with tied embeddings). */
    scaleLogits: z.boolean().default(false),
  })
  .superRefine(refuseUnfitStacks);

/** Options with the vocabulary known. */
export type EncoderDecoderOptions = z.infer<typeof encoderDecoderSchema> & { readonly vocabSize: number };

/** What a stack of blocks reads of its model's options. */
export type StackOptions = Omit<EncoderDecoderOptions, 'kind' | 'tieEmbeddings' | 'scaleLogits'>;
