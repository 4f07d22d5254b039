/**
 * Half of an encoder–decoder: positions, blocks and the last norm.
 * @module
 */
import { add, multiply, range, reshape, type Tensor } from '../graph/index.js';
import {
  countSparseBlocks,
  createSparseLayer,
  DenseFeedForward,
  isSparseBlock,
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
  Module,
  normal,
  RelativePositionBias,
  sinusoids,
  uniform,
  weightInitializer,
  type TraceContext,
  type WeightInitialization,
} from '../nn/index.js';
import { EncoderDecoderBlock, type BlockAttention } from './encoder-decoder-block.js';
import type { StackOptions } from './encoder-decoder-options.js';
import { LayerReports, type ModelReport } from './layer-reports.js';
import { createNorm, type Norm } from './transformer-block.js';

/** What a stack reads. */
export interface StackInputs {
  /** Embedded tokens, `[batch, time, hiddenSize]`. */
  readonly embedded: Tensor;
  /** Int32 `[batch, time]` */
  readonly tokens: Tensor;
  /** Float `[batch, time]`: 1 for real tokens, 0 for padding. */
  readonly mask?: Tensor | undefined;
  /** Int32 `[batch, time]` */
  readonly languages?: Tensor | undefined;
  /** What a decoder attends to. */
  readonly memory?: { readonly states: Tensor; readonly mask?: Tensor | undefined };
}

/** Encoder or decoder. Routers are shared, and decisions read or repeated, inside one stack only. */
export class EncoderDecoderStack extends Module {
  readonly position: Embedding | RelativePositionBias | undefined;
  readonly blocks: readonly EncoderDecoderBlock[];
  readonly norm: Norm;

  /** @param firstLayer index of the first block among all blocks of the model, encoder first. */
  constructor(
    private readonly options: StackOptions,
    readonly side: 'encoder' | 'decoder',
    private readonly firstLayer: number,
  ) {
    super();
    const { hiddenSize, positions, initialization } = options;
    this.position =
      positions === 'learned'
        ? new Embedding(this.maxTime, hiddenSize, normal(initialization.embedding))
        : positions === 'relative'
          ? this.createRelativeBias()
          : undefined;
    const routers = new RouterPool();
    this.blocks = Array.from({ length: this.numLayers }, (_, index) => this.createBlock(index, routers));
    this.norm = createNorm(this.options, hiddenSize);
  }

  /** Most tokens that this side takes. */
  get maxTime(): number {
    const { contextLength, targetLength = contextLength } = this.options;
    return this.side === 'encoder' ? contextLength : targetLength;
  }

  private get numLayers(): number {
    return this.side === 'encoder' ? this.options.numEncoderLayers : this.options.numDecoderLayers;
  }

  /** T5's start: uniform with variance 1 over the mean of buckets and heads. */
  private createRelativeBias(): RelativePositionBias {
    const { numHeads, relative: { numBuckets, maxDistance } = { numBuckets: 32, maxDistance: 128 } } =
      this.options;
    const start = uniform(Math.sqrt(3 / ((numBuckets + numHeads) / 2)));
    return new RelativePositionBias(numHeads, this.side === 'encoder', start, numBuckets, maxDistance);
  }

  private createBlock(index: number, routers: RouterPool): EncoderDecoderBlock {
    const { hiddenSize, numHeads, bias, initialization, dropout: rate } = this.options;
    const headSize = this.options.headSize ?? hiddenSize / numHeads;
    const attention = (): Attention =>
      new Attention(
        { hiddenSize, numHeads, numKeyValueHeads: numHeads, headSize, bias },
        weightInitializer(initialization, hiddenSize),
        weightInitializer(this.outputInitialization(), numHeads * headSize),
      );
    const selfAttention = attention();
    const cross =
      this.side === 'decoder'
        ? { crossAttentionNorm: createNorm(this.options, hiddenSize), crossAttention: attention() }
        : undefined;
    const feedForward = this.createFeedForward(index, routers);
    return new EncoderDecoderBlock(
      {
        selfAttentionNorm: createNorm(this.options, hiddenSize),
        selfAttention,
        cross,
        feedForwardNorm: feedForward.ownsResidual ? undefined : createNorm(this.options, hiddenSize),
        feedForward,
      },
      rate,
    );
  }

  private createFeedForward(index: number, routers: RouterPool): FeedForward & Module {
    const { sparse, ...options } = this.options;
    const { numEncoderLayers, numDecoderLayers } = options;
    const sizes: LayerSizes = {
      ...options,
      contextLength: this.maxTime,
      numLayers: this.numLayers,
      outputInitialization: this.outputInitialization(),
      layerIndex: index,
      sparseIndex: sparse ? countSparseBlocks(sparse, index, this.firstLayer) : 0,
      numStackSparseLayers: sparse ? countSparseBlocks(sparse, this.numLayers, this.firstLayer) : 0,
      numSparseLayers: sparse
        ? countSparseBlocks(sparse, numEncoderLayers) +
          countSparseBlocks(sparse, numDecoderLayers, numEncoderLayers)
        : 0,
      routers,
    };
    if (sparse && isSparseBlock(sparse, index, this.firstLayer)) return createSparseLayer(sparse, sizes);
    return new DenseFeedForward(
      { ...sizes, dropout: options.activationDropout ?? options.dropout },
      weightInitializer(sizes.initialization, sizes.hiddenSize),
      weightInitializer(sizes.outputInitialization, sizes.intermediateSize),
    );
  }

  private outputInitialization(): WeightInitialization {
    const { initialization: rule } = this.options;
    if (!rule.scaleOutputsByDepth) return rule;
    const subLayers = (this.side === 'decoder' ? 3 : 2) * this.numLayers;
    return {
      ...rule,
      scale: rule.scale / subLayers,
      standardDeviation: rule.standardDeviation / Math.sqrt(subLayers),
    };
  }

  /**
   * Traces the stack.
   * @throws RangeError if there are more tokens than it takes.
   */
  forward(inputs: StackInputs, context: TraceContext): ModelReport & { readonly states: Tensor } {
    const { embedded, tokens, mask, languages, memory } = inputs;
    const { options, side } = this;
    const [batch, time] = tokens.shape as [number, number];
    const limit = side === 'encoder' ? 'contextLength' : 'targetLength';
    if (time > this.maxTime) throw new RangeError(`${time} tokens do not fit ${limit} ${this.maxTime}`);
    const drop = (x: Tensor, part: string): Tensor => dropout(x, options.dropout, `${side}.${part}`, context);
    const scale = options.attentionScale ?? undefined;
    const common = { dropoutRate: options.attentionDropout, ...(scale === undefined ? {} : { scale }) };
    const self: BlockAttention = {
      ...common,
      causal: side === 'decoder',
      keyMask: mask,
      ...(this.position instanceof RelativePositionBias ? { bias: this.position.forward(time, time) } : {}),
    };
    const cross = memory && { ...common, memory: memory.states, keyMask: memory.mask };
    const flat = (x: Tensor | undefined): Tensor | undefined => x && reshape(x, [batch * time]);
    const reports = new LayerReports();
    let previousRecord: RoutingRecord | undefined;
    let previousRouting: FeedForwardOutput['routing'];
    let hidden = drop(this.placed(embedded, time), 'embedding');
    this.blocks.forEach((block, layerIndex) => {
      const result = block.forward(hidden, self, cross, {
        ...context,
        layerIndex,
        site: `${side}.blocks.${layerIndex}`,
        batchSize: batch,
        causal: side === 'decoder',
        tokenMask: flat(mask),
        tokenIds: flat(tokens),
        languageIds: flat(languages),
        previousRecord,
        previousRouting,
      });
      hidden = result.hidden;
      previousRecord = result.records.at(-1) ?? previousRecord;
      previousRouting = result.routing ?? previousRouting;
      reports.add(result, this.firstLayer + layerIndex, `${side}.`);
    });
    const normed = this.norm.forward(hidden);
    return { states: options.finalDropout ? drop(normed, 'final') : normed, ...reports };
  }

  /** Embeddings with what they are told about positions. */
  private placed(embedded: Tensor, time: number): Tensor {
    const { scaleEmbeddings, hiddenSize, positions } = this.options;
    const scaled = scaleEmbeddings ? multiply(embedded, Math.sqrt(hiddenSize)) : embedded;
    if (this.position instanceof Embedding) return add(scaled, this.position.forward(range(time)));
    return positions === 'sinusoidal' ? add(scaled, sinusoids(time, hiddenSize, scaled.dtype)) : scaled;
  }
}
