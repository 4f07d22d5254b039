/**
 * Options of language models, as they stand in a recipe.
 * @module
 */
import { z } from 'zod';
import { activationSchema, placementProblem, sparseSchema } from '../moe/index.js';
import { rotarySchema } from './rotary-options.js';

const size = z.int().min(1);
const rate = z.number().min(0).lt(1);

/** How weights start, for every kind of model. */
export const initializationSchema = z.strictObject({
  kind: z.enum(['fanIn', 'normal']).default('fanIn'),
  /** s of σ = √(s / fanIn); Switch §2.4 uses 0.1. */
  scale: z.number().positive().default(0.1),
  /** σ when kind is `normal`. */
  standardDeviation: z.number().positive().default(0.02),
  /** Divide the σ of output projections by √(2 · numLayers), as GPT-2 does. */
  scaleOutputsByDepth: z.boolean().default(false),
  /** σ of the embedding table. */
  embedding: z.number().positive().default(0.02),
});

/** Multi-head latent attention (DeepSeek-V2): sizes of its short vectors and of the parts of its heads. */
const latentAttentionSchema = z.strictObject({
  /** Length of the vector that queries come out of; null projects them from the hidden state. */
  queryRank: size.nullable().default(null),
  /** Length of the vector that keys and values come out of: all that a cache keeps of a token, beside the rotated part. */
  keyValueRank: size,
  /** Features of a query and key that know nothing of positions. */
  contentHeadSize: size,
  /** Features of a query and key that are rotated. */
  rotaryHeadSize: size,
  valueHeadSize: size,
});

/** Options of {@link LanguageModel}, as they stand in a recipe. */
export const languageModelSchema = z
  .strictObject({
    kind: z.literal('languageModel').default('languageModel'),
    /** Taken from the tokenizer when absent. */
    vocabSize: size.optional(),
    hiddenSize: size,
    numLayers: size,
    numHeads: size,
    /** Fewer than numHeads gives grouped-query attention. */
    numKeyValueHeads: size.optional(),
    /** hiddenSize / numHeads when absent. */
    headSize: size.optional(),
    /** Width of the dense feed-forward layers. */
    intermediateSize: size,
    activation: activationSchema.default('relu'),
    /** Tokens of one segment; without a memory, the tokens that one prediction can look back on. */
    contextLength: size,
    /**
     * `transformerXL`: distances to the segment and to the memory of those before it (σ-MoE's backbone). `span`: learned
     * keys for exactly the `memoryLength` steps before each token (ACMoE's backbone).
     */
    positions: z.enum(['rotary', 'learned', 'relative', 'none', 'transformerXL', 'span']).default('rotary'),
    /** Settings of `rotary` positions. */
    rotary: rotarySchema.optional(),
    /** Norms of queries and keys: of each `head` by itself (Qwen3), or over `all` heads together (OLMoE). */
    queryKeyNorm: z.enum(['head', 'all']).optional(),
    /** Cuts queries, keys and values off at ± this. */
    clipQueryKeyValue: z.number().positive().optional(),
    /** Latent attention instead of ordinary heads; positions are then rotary. */
    latentAttention: latentAttentionSchema.optional(),
    /**
     * Tokens before a segment whose states are kept, without a gradient, while training; contextLength when absent. 0
     * turns the memory of `transformerXL` off.
     */
    memoryLength: z.int().min(0).optional(),
    /** The same outside training; memoryLength when absent. σ-MoE measures with four times as much. */
    evaluationMemoryLength: z.int().min(0).optional(),
    /** Whether `transformerXL` learns the factor on its scores, which starts at 1 / √headSize; true when absent. */
    learnedAttentionScale: z.boolean().optional(),
    norm: z.enum(['rms', 'layer']).default('rms'),
    /** What norms add before the root; 1e-6 for `rms` and 1e-5 for `layer` when absent. */
    normEpsilon: z.number().positive().optional(),
    /**
     * `pre`: h + f(norm(h)), and a last norm before the output. `post`: norm(h + f(h)). `postDouble`: around the
     * feed-forward layer norm(h + norm(h + f(h))), as ACMoE.
     */
    blockNorm: z.enum(['pre', 'post', 'postDouble']).default('pre'),
    bias: z.boolean().default(false),
    /** Biases of attention: on all four projections, on queries, keys and values only (Qwen2), or none; as `bias` when absent. */
    attentionBias: z.enum(['all', 'inputs', 'none']).optional(),
    /** Biases of dense feed-forward layers; as `bias` when absent. */
    feedForwardBias: z.boolean().optional(),
    tieEmbeddings: z.boolean().default(true),
    /** A bias on the logits; needs an output layer of its own. */
    outputBias: z.boolean().default(false),
    /** After the embedding, each sub-layer, and inside dense feed-forward layers. */
    dropout: rate.default(0),
    /** On attention probabilities; expensive, so off unless asked for. */
    attentionDropout: rate.default(0),
    /** Before the output layer. */
    outputDropout: rate.default(0),
    initialization: initializationSchema
      .extend({
        /** `depthScaled`: σ = √(2 / (numLayers · fanIn)), the spread of the drawn numbers made exact (σ-MoE). */
        kind: z.enum(['fanIn', 'normal', 'depthScaled']).default('fanIn'),
        /** σ of the tables of tokens and positions, or `xavier`: uniform in ±√(6 / (rows + columns)). */
        embedding: z.union([z.number().positive(), z.literal('xavier')]).default(0.02),
        /** `uniform`: an output layer of its own starts in ±1/√hiddenSize, bias too (σ-MoE); as the weights when absent. */
        head: z.literal('uniform').optional(),
      })
      .prefault({}),
    /** Absent or null: a dense model. */
    sparse: sparseSchema.nullable().default(null),
  })
  .superRefine((options, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: path.split('.'), message });
    const { hiddenSize, numHeads, numKeyValueHeads = numHeads, headSize, numLayers, sparse } = options;
    if (options.latentAttention) {
      // Its heads have sizes of their own.
    } else if (headSize === undefined && hiddenSize % numHeads !== 0) {
      refuse(
        'hiddenSize',
        `hiddenSize ${hiddenSize} is not divisible by numHeads ${numHeads}; change one, or set headSize`,
      );
    } else if (options.positions === 'rotary' && (headSize ?? hiddenSize / numHeads) % 2 !== 0) {
      refuse('headSize', `rotary positions need an even head size, not ${headSize ?? hiddenSize / numHeads}`);
    }
    if (numHeads % numKeyValueHeads !== 0) {
      refuse(
        'numKeyValueHeads',
        `numHeads ${numHeads} is not divisible by numKeyValueHeads ${numKeyValueHeads}`,
      );
    }
    const problem = sparse && placementProblem(sparse, [numLayers]);
    if (problem) refuse(`sparse.${problem.key}`, problem.message);
    refuseUnfitMemory(options, refuse);
    refuseUnfitAttention(options, refuse);
    if (options.blockNorm !== 'pre' && sparse?.kind === 'stratified') {
      refuse(
        'blockNorm',
        `stratified layers have their own norms and residual, which ${options.blockNorm} would break; use pre`,
      );
    }
    if (options.outputBias && options.tieEmbeddings) {
      refuse('outputBias', 'outputBias needs an output layer of its own: set tieEmbeddings to false');
    }
    if (options.initialization.head && options.tieEmbeddings) {
      refuse('initialization.head', 'the output layer is the embedding: set tieEmbeddings to false');
    }
    if (options.initialization.kind === 'depthScaled' && options.initialization.scaleOutputsByDepth) {
      refuse(
        'initialization.scaleOutputsByDepth',
        'depthScaled weights are smaller in deep models already; leave scaleOutputsByDepth out',
      );
    }
  });

function refuseUnfitMemory(
  options: Readonly<{
    positions: string;
    memoryLength?: number | undefined;
    evaluationMemoryLength?: number | undefined;
    learnedAttentionScale?: boolean | undefined;
    hiddenSize: number;
    numHeads: number;
    numKeyValueHeads?: number | undefined;
  }>,
  refuse: (path: string, message: string) => void,
): void {
  const { positions, memoryLength, evaluationMemoryLength, hiddenSize, numHeads } = options;
  const relative = positions === 'transformerXL' || positions === 'span';
  for (const key of ['memoryLength', 'evaluationMemoryLength'] as const) {
    if (options[key] !== undefined && !relative) {
      refuse(key, `${positions} positions have no memory: use transformerXL or span, or leave ${key} out`);
    }
  }
  if (options.learnedAttentionScale !== undefined && positions !== 'transformerXL') {
    refuse('learnedAttentionScale', `only transformerXL positions can learn their scale, not ${positions}`);
  }
  if (relative && (options.numKeyValueHeads ?? numHeads) !== numHeads) {
    refuse('numKeyValueHeads', `${positions} positions need as many key/value heads as numHeads ${numHeads}`);
  }
  if (positions === 'transformerXL' && hiddenSize % 2 !== 0) {
    refuse('hiddenSize', `transformerXL positions need an even hiddenSize, not ${hiddenSize}`);
  }
  if (positions !== 'span') return;
  if (memoryLength === 0) refuse('memoryLength', 'span positions look back at least 1 step');
  if (evaluationMemoryLength !== undefined && evaluationMemoryLength !== memoryLength) {
    refuse(
      'evaluationMemoryLength',
      'span positions look back as far outside training as in it: leave evaluationMemoryLength out',
    );
  }
}

type AttentionChoice = Readonly<
  Pick<
    z.infer<typeof languageModelSchema>,
    | 'positions'
    | 'attentionBias'
    | 'rotary'
    | 'queryKeyNorm'
    | 'clipQueryKeyValue'
    | 'latentAttention'
    | 'numHeads'
    | 'numKeyValueHeads'
    | 'headSize'
  >
>;

function refuseUnfitAttention(
  options: AttentionChoice,
  refuse: (path: string, message: string) => void,
): void {
  const { positions, latentAttention: latent, numHeads, numKeyValueHeads = numHeads, rotary } = options;
  if (rotary !== undefined && positions !== 'rotary') {
    refuse(
      'rotary',
      `${positions} positions have no rotary settings: leave rotary out, or use rotary positions`,
    );
  }
  const ownAttention = positions === 'transformerXL' || positions === 'span';
  for (const key of ['attentionBias', 'queryKeyNorm', 'clipQueryKeyValue', 'latentAttention'] as const) {
    if (options[key] !== undefined && ownAttention)
      refuse(key, `${positions} positions have attention of their own: leave ${key} out`);
  }
  const low = rotary?.scaling?.kind === 'llama3' ? rotary.scaling : undefined;
  if (low && low.lowFrequencyFactor >= low.highFrequencyFactor) {
    refuse(
      'rotary.scaling.lowFrequencyFactor',
      `lowFrequencyFactor ${low.lowFrequencyFactor} is not below highFrequencyFactor ${low.highFrequencyFactor}`,
    );
  }
  if (!latent || ownAttention) return;
  for (const key of ['queryKeyNorm', 'clipQueryKeyValue', 'headSize'] as const) {
    if (options[key] !== undefined) refuse(key, `latent attention has none: leave ${key} out`);
  }
  if (numKeyValueHeads !== numHeads) {
    refuse('numKeyValueHeads', `latent attention has keys for each of its numHeads ${numHeads} heads`);
  }
  if (positions !== 'rotary')
    refuse(
      'positions',
      `latent attention rotates a part of its heads: use rotary positions, not ${positions}`,
    );
  if (latent.rotaryHeadSize % 2 !== 0) {
    refuse(
      'latentAttention.rotaryHeadSize',
      `rotary positions need an even size, not ${latent.rotaryHeadSize}`,
    );
  }
}

/** Options with the vocabulary known. */
export type LanguageModelOptions = z.infer<typeof languageModelSchema> & { readonly vocabSize: number };
