/**
 * Decoder-only language model, dense or with sparse layers in every n-th block.
 * @module
 */
import { z } from 'zod';
import { add, gather, multiply, range, reshape, type Tensor } from '../graph/index.js';
import {
  activationSchema,
  createSparseLayer,
  DenseFeedForward,
  isSparseBlock,
  sparseSchema,
  type AuxiliaryLoss,
  RouterPool,
  type FeedForward,
  type FeedForwardOutput,
  type LayerSizes,
  type RoutingRecord,
} from '../moe/index.js';
import {
  Attention,
  dropout,
  Embedding,
  Linear,
  Module,
  normal,
  RelativePositionBias,
  rotaryTables,
  weightInitializer,
  type AttentionInputs,
  type StateUpdate,
  type TraceContext,
  type WeightInitialization,
} from '../nn/index.js';
import { createNorm, TransformerBlock, type Norm } from './transformer-block.js';

const size = z.int().min(1);

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
    /** Tokens that one prediction can look back on. */
    contextLength: size,
    positions: z.enum(['rotary', 'learned', 'relative', 'none']).default('rotary'),
    norm: z.enum(['rms', 'layer']).default('rms'),
    bias: z.boolean().default(false),
    tieEmbeddings: z.boolean().default(true),
    /** After the embedding, each sub-layer, and inside dense feed-forward layers. */
    dropout: z.number().min(0).lt(1).default(0),
    /** On attention probabilities; expensive, so off unless asked for. */
    attentionDropout: z.number().min(0).lt(1).default(0),
    initialization: z
      .strictObject({
        kind: z.enum(['fanIn', 'normal']).default('fanIn'),
        /** s of σ = √(s / fanIn); Switch §2.4 uses 0.1. */
        scale: z.number().positive().default(0.1),
        /** σ when kind is `normal`. */
        standardDeviation: z.number().positive().default(0.02),
        /** Divide the σ of output projections by √(2 · numLayers), as GPT-2 does. */
        scaleOutputsByDepth: z.boolean().default(false),
        /** σ of the embedding table. */
        embedding: z.number().positive().default(0.02),
      })
      .prefault({}),
    /** Absent or null: a dense model. */
    sparse: sparseSchema.nullable().default(null),
  })
  .superRefine((options, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    const { hiddenSize, numHeads, numKeyValueHeads = numHeads, headSize, numLayers, sparse } = options;
    if (headSize === undefined && hiddenSize % numHeads !== 0) {
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
    if (sparse && sparse.every > numLayers) {
      context.addIssue({
        code: 'custom',
        path: ['sparse', 'every'],
        message: `every ${sparse.every} is more than numLayers ${numLayers}: no layer would be sparse`,
      });
    }
  });

/** Options with the vocabulary known. */
export type LanguageModelOptions = z.infer<typeof languageModelSchema> & { readonly vocabSize: number };

/** What a traced model returns. */
export interface LanguageModelOutput {
  /** `[batch · time, vocabSize]`, or `[rows, vocabSize]` for chosen rows */
  readonly logits: Tensor;
  /** One per sparse layer, in order. */
  readonly records: readonly RoutingRecord[];
  /** Terms of every sparse layer, each with its layer's index. */
  readonly losses: readonly (AuxiliaryLoss & { readonly layerIndex: number })[];
  /** State of routers that follows training without a gradient. */
  readonly updates: readonly StateUpdate[];
}

/** Tensors that a model reads. */
export interface LanguageModelInputs {
  /** Int32 `[batch, time]` */
  readonly tokens: Tensor;
  /** Float `[batch, time]`: 1 for real tokens, 0 for padding. */
  readonly mask?: Tensor;
  /** Int32 `[batch, time]` */
  readonly languages?: Tensor;
  /** Int32 `[rows]`: the flattened positions whose logits are wanted; all when absent. */
  readonly logitRows?: Tensor;
}

/** Decoder-only Transformer. Parameter names follow the properties: `blocks.0.attention.query.weight`. */
export class LanguageModel extends Module {
  readonly embedding: Embedding;
  readonly position: Embedding | RelativePositionBias | undefined;
  readonly blocks: readonly TransformerBlock[];
  readonly norm: Norm;
  readonly head: Linear | undefined;

  constructor(readonly options: LanguageModelOptions) {
    super();
    const { hiddenSize, numHeads, vocabSize, contextLength, positions, initialization } = options;
    this.embedding = new Embedding(vocabSize, hiddenSize, normal(initialization.embedding));
    this.position =
      positions === 'learned'
        ? new Embedding(contextLength, hiddenSize, normal(initialization.embedding))
        : positions === 'relative'
          ? new RelativePositionBias(numHeads, false, normal(initialization.embedding))
          : undefined;
    const routers = new RouterPool();
    this.blocks = Array.from({ length: options.numLayers }, (_, index) => this.createBlock(index, routers));
    this.norm = createNorm(options.norm, hiddenSize);
    this.head = options.tieEmbeddings
      ? undefined
      : new Linear(hiddenSize, vocabSize, weightInitializer(initialization, hiddenSize));
  }

  /** Why outputs at a position may depend on later tokens, one line a layer; empty for a causal model. */
  get leaks(): readonly string[] {
    return this.blocks.flatMap(({ feedForward: { leak } }, index) =>
      leak === undefined ? [] : [`layer ${index}: ${leak}`],
    );
  }

  private createBlock(index: number, routers: RouterPool): TransformerBlock {
    const { options } = this;
    const { hiddenSize, numHeads, numKeyValueHeads = numHeads, bias, initialization, norm } = options;
    const headSize = options.headSize ?? hiddenSize / numHeads;
    const feedForward = this.createFeedForward(index, routers);
    return new TransformerBlock(
      {
        attentionNorm: createNorm(norm, hiddenSize),
        attention: new Attention(
          { hiddenSize, numHeads, numKeyValueHeads, headSize, bias },
          weightInitializer(initialization, hiddenSize),
          weightInitializer(this.outputInitialization(), numHeads * headSize),
        ),
        feedForwardNorm: feedForward.ownsResidual ? undefined : createNorm(norm, hiddenSize),
        feedForward,
      },
      options.dropout,
    );
  }

  private createFeedForward(layerIndex: number, routers: RouterPool): FeedForward {
    const { sparse, ...options } = this.options;
    const sizes: LayerSizes = {
      ...options,
      outputInitialization: this.outputInitialization(),
      layerIndex,
      sparseIndex: sparse ? Math.floor(layerIndex / sparse.every) : 0,
      routers,
    };
    if (sparse && isSparseBlock(sparse, layerIndex)) return createSparseLayer(sparse, sizes);
    return new DenseFeedForward(
      sizes,
      weightInitializer(sizes.initialization, sizes.hiddenSize),
      weightInitializer(sizes.outputInitialization, sizes.intermediateSize),
    );
  }

  private outputInitialization(): WeightInitialization {
    const { initialization: rule, numLayers } = this.options;
    if (!rule.scaleOutputsByDepth) return rule;
    const shrink = 1 / (2 * numLayers);
    return {
      ...rule,
      scale: rule.scale * shrink,
      standardDeviation: rule.standardDeviation * Math.sqrt(shrink),
    };
  }

  /** Traces the model over static `[batch, time]` ids. */
  forward(
    { tokens, mask, languages, logitRows }: LanguageModelInputs,
    context: TraceContext,
  ): LanguageModelOutput {
    const [batch, time] = tokens.shape as [number, number];
    const { hiddenSize, contextLength, dropout: rate, attentionDropout } = this.options;
    if (time > contextLength)
      throw new RangeError(`${time} tokens do not fit contextLength ${contextLength}`);
    let hidden = this.embedding.forward(tokens);
    if (this.position instanceof Embedding) hidden = add(hidden, this.position.forward(range(time)));
    hidden = dropout(hidden, rate, 'embedding', context);

    const attention: Omit<AttentionInputs, 'site'> = {
      causal: true,
      dropoutRate: attentionDropout,
      keyMask: mask,
      ...this.positionInputs(time, hidden),
    };
    const flat = (x: Tensor | undefined): Tensor | undefined => x && reshape(x, [batch * time]);
    const records: RoutingRecord[] = [];
    const losses: (AuxiliaryLoss & { layerIndex: number })[] = [];
    const updates: StateUpdate[] = [];
    let routing: FeedForwardOutput['routing'];
    this.blocks.forEach((block, layerIndex) => {
      const result = block.forward(hidden, attention, {
        ...context,
        layerIndex,
        site: `blocks.${layerIndex}`,
        batchSize: batch,
        causal: true,
        tokenMask: flat(mask),
        tokenIds: flat(tokens),
        languageIds: flat(languages),
        previousRecord: records.at(-1),
        previousRouting: routing,
      });
      hidden = result.hidden;
      routing = result.routing ?? routing;
      records.push(...result.records);
      updates.push(...(result.updates ?? []));
      losses.push(...result.losses.map((loss) => ({ ...loss, layerIndex })));
    });
    const all = reshape(this.norm.forward(hidden), [batch * time, hiddenSize]);
    const rows = logitRows ? gather(all, logitRows) : all;
    return {
      logits: this.head ? this.head.forward(rows) : this.embedding.logits(rows),
      records,
      losses,
      updates,
    };
  }

  private positionInputs(time: number, like: Tensor): Pick<AttentionInputs, 'rotary' | 'bias'> {
    const { positions, headSize, hiddenSize, numHeads } = this.options;
    if (positions === 'rotary')
      return { rotary: rotaryTables(time, headSize ?? hiddenSize / numHeads, like.dtype) };
    if (this.position instanceof RelativePositionBias) return { bias: this.position.forward(time, time) };
    return {};
  }
}

/** Sum of `coefficient · value` over auxiliary losses, or undefined when there is none. */
export function totalAuxiliaryLoss(losses: readonly AuxiliaryLoss[]): Tensor | undefined {
  return losses
    .filter(({ coefficient }) => coefficient > 0)
    .map(({ coefficient, value }) => multiply(value, coefficient))
    .reduce<Tensor | undefined>((total, term) => (total ? add(total, term) : term), undefined);
}
