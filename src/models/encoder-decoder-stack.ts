/**
 * Half of an encoder–decoder: positions, blocks and the last norm.
 * @module
 */
import { add, gather, multiply, range, reshape, Tensor } from '../graph/index.js';
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
  type AttentionPast,
  type CacheEntry,
  type CacheSizes,
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
import {
  capacityOf,
  positionsAfter,
  usedSlots,
  type CacheInput,
  type DecodingCache,
} from './decoding-cache.js';
import {
  EncoderDecoderBlock,
  type BlockAttention,
  type CrossAttentionInputs,
  type SelfAttentionInputs,
} from './encoder-decoder-block.js';
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
  /** What a decoder attends to: the encoder's states, or what its blocks made of them, one entry a block. */
  readonly memory?: {
    readonly states: Tensor | readonly CacheEntry[];
    /** Float `[batch, sourceTime]` */
    readonly mask?: Tensor | undefined;
  };
  /** Targets so far, to go on from; decoders only. */
  readonly cache?: CacheInput | undefined;
}

/** What a traced stack returns. */
export interface StackOutput extends ModelReport {
  /** `[batch, time, hiddenSize]` */
  readonly states: Tensor;
  /** What is to be kept of these tokens, one entry a block; only where a cache was given. */
  readonly cache: readonly CacheEntry[] | undefined;
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

  /** What every block keeps of a token, for those after it. */
  get cacheSizes(): readonly CacheSizes[] {
    return this.blocks.map(({ selfAttention }) => selfAttention.cacheSizes);
  }

  /** Why no pass can go on from a cache; undefined where one can. */
  get wholeText(): string | undefined {
    const layer = this.blocks.findIndex(({ feedForward }) => feedForward.wholeText !== undefined);
    return layer < 0 ? undefined : `${this.side} layer ${layer}: ${this.blocks[layer].feedForward.wholeText}`;
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
   * @throws RangeError if there are more tokens than it takes, or a cache is given to layers that need whole targets.
   */
  forward(inputs: StackInputs, context: TraceContext): StackOutput {
    const { embedded, tokens, mask, languages, memory, cache } = inputs;
    const { options, side } = this;
    const [batch, time] = tokens.shape as [number, number];
    const limit = side === 'encoder' ? 'contextLength' : 'targetLength';
    if (time > this.maxTime) throw new RangeError(`${time} tokens do not fit ${limit} ${this.maxTime}`);
    if (cache && this.wholeText !== undefined) throw new RangeError(`no pass can go on: ${this.wholeText}`);
    const past = cache === 'start' ? undefined : cache;
    const positions = past && positionsAfter(past, time, this.maxTime);
    const drop = (x: Tensor, part: string): Tensor => dropout(x, options.dropout, `${side}.${part}`, context);
    const scale = options.attentionScale ?? undefined;
    const common = { dropoutRate: options.attentionDropout, ...(scale === undefined ? {} : { scale }) };
    const self: BlockAttention = {
      ...common,
      causal: side === 'decoder',
      keyMask: mask,
      ...(this.position instanceof RelativePositionBias ? { bias: this.position.forward(time, time) } : {}),
    };
    const slots = past && positions && this.slots(past, embedded, positions);
    const cached = (layer: number): SelfAttentionInputs =>
      cache ? { ...self, cache: slots ? { ...slots, entry: past.entries[layer] } : 'start' } : self;
    const cross = (layer: number): CrossAttentionInputs | undefined => {
      if (!memory) return undefined;
      const { states } = memory;
      const read = states instanceof Tensor ? { memory: states } : { entry: states[layer] };
      return { ...common, keyMask: memory.mask, ...read };
    };
    const flat = (x: Tensor | undefined): Tensor | undefined => x && reshape(x, [batch * time]);
    const reports = new LayerReports();
    const kept: CacheEntry[] = [];
    let previousRecord: RoutingRecord | undefined;
    let previousRouting: FeedForwardOutput['routing'];
    let hidden = drop(this.placed(embedded, time, positions), 'embedding');
    this.blocks.forEach((block, layerIndex) => {
      const result = block.forward(hidden, cached(layerIndex), cross(layerIndex), {
        ...context,
        layerIndex,
        site: `${side}.blocks.${layerIndex}`,
        batchSize: batch,
        causal: side === 'decoder',
        tokenMask: flat(mask),
        positions: flat(positions),
        serveAll: cache !== undefined,
        tokenIds: flat(tokens),
        languageIds: flat(languages),
        previousRecord,
        previousRouting,
      });
      hidden = result.hidden;
      if (result.entry) kept.push(result.entry);
      previousRecord = result.records.at(-1) ?? previousRecord;
      previousRouting = result.routing ?? previousRouting;
      reports.add(result, this.firstLayer + layerIndex, `${side}.`);
    });
    const normed = this.norm.forward(hidden);
    return {
      states: options.finalDropout ? drop(normed, 'final') : normed,
      cache: cache && kept,
      ...reports,
    };
  }

  /** What all blocks are told about the slots of a cache. */
  private slots(past: DecodingCache, { dtype }: Tensor, positions: Tensor): Omit<AttentionPast, 'entry'> {
    const capacity = capacityOf(past);
    return {
      mask: usedSlots(past, capacity, dtype),
      ...(this.position instanceof RelativePositionBias && { bias: this.position.at(positions, capacity) }),
    };
  }

  /** Embeddings with what they are told about positions. */
  private placed(embedded: Tensor, time: number, positions: Tensor | undefined): Tensor {
    const { scaleEmbeddings, hiddenSize, positions: kind } = this.options;
    const scaled = scaleEmbeddings ? multiply(embedded, Math.sqrt(hiddenSize)) : embedded;
    if (this.position instanceof Embedding)
      return add(scaled, this.position.forward(positions ?? range(time)));
    if (kind !== 'sinusoidal') return scaled;
    const rows = sinusoids(positions ? this.maxTime : time, hiddenSize, scaled.dtype);
    return add(scaled, positions ? gather(rows, positions) : rows);
  }
}
