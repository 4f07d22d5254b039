/**
 * Decoder-only language model, dense or with sparse layers in every n-th block.
 * @module
 */
import { add, concat, fill, gather, multiply, range, reshape, type Tensor } from '../graph/index.js';
import {
  countSparseBlocks,
  createSparseLayer,
  DenseFeedForward,
  isSparseBlock,
  type AuxiliaryLoss,
  RouterPool,
  type FeedForward,
  type FeedForwardOutput,
  type LayerSizes,
} from '../moe/index.js';
import {
  Attention,
  biasInitializer,
  dropout,
  Embedding,
  LatentAttention,
  Linear,
  Module,
  normal,
  RelativePositionBias,
  rotaryTables,
  scoreFactor,
  sinusoidTable,
  SpanAttention,
  SpanPositions,
  TransformerXLAttention,
  weightInitializer,
  xavierUniform,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionPast,
  type CacheEntry,
  type CacheSizes,
  type Initializer,
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
import type { LanguageModelOptions } from './language-model-options.js';
import { LayerReports, type ModelReport } from './layer-reports.js';
import {
  emptySpan,
  memoryLengths,
  pushSegment,
  type MemoryLengths,
  type SegmentMemory,
} from './segment-memory.js';
import { createNorm, TransformerBlock, type BlockPast, type Norm } from './transformer-block.js';

/** What a traced model returns. */
export interface LanguageModelOutput extends ModelReport {
  /** `[batch · time, vocabSize]`, or `[rows, vocabSize]` for chosen rows */
  readonly logits: Tensor;
  /** What the next segment remembers; only where a memory was given. */
  readonly memory: SegmentMemory | undefined;
  /** What is to be kept of these tokens, one entry a block: `[batch, heads, time, size]`; only where a cache was given. */
  readonly cache: readonly CacheEntry[] | undefined;
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
  /** What came before: `transformerXL` and `span` positions only; they begin a text when absent. */
  readonly memory?: SegmentMemory | undefined;
  /** The tokens before, to go on from; `start` where texts begin and what later passes need is to be kept. */
  readonly cache?: CacheInput | undefined;
}

/** Decoder-only Transformer. Parameter names follow the properties: `blocks.0.attention.query.weight`. */
export class LanguageModel extends Module {
  readonly embedding: Embedding;
  readonly position: Embedding | RelativePositionBias | SpanPositions | undefined;
  readonly blocks: readonly TransformerBlock[];
  /** Before the output layer; absent where blocks end with a norm of their own. */
  readonly norm: Norm | undefined;
  readonly head: Linear | undefined;

  constructor(readonly options: LanguageModelOptions) {
    super();
    const { hiddenSize, vocabSize } = options;
    this.embedding = new Embedding(vocabSize, hiddenSize, this.tableInitializer(vocabSize, hiddenSize));
    this.position = this.createPositions();
    const routers = new RouterPool();
    this.blocks = Array.from({ length: options.numLayers }, (_, index) => this.createBlock(index, routers));
    this.norm = options.blockNorm === 'pre' ? createNorm(options, hiddenSize) : undefined;
    this.head = options.tieEmbeddings ? undefined : this.createHead();
  }

  /** How far the memory of earlier segments reaches; undefined for models that see one segment only. */
  get memoryLengths(): MemoryLengths | undefined {
    return memoryLengths(this.options);
  }

  /** Most tokens that one call of {@link forward} takes: a segment, and what a memory would have held. */
  get windowLength(): number {
    return this.options.contextLength + (this.memoryLengths?.evaluation ?? 0);
  }

  /** Why outputs at a position may depend on later tokens, one line a layer; empty for a causal model. */
  get leaks(): readonly string[] {
    return this.blocks.flatMap(({ feedForward: { leak } }, index) =>
      leak === undefined ? [] : [`layer ${index}: ${leak}`],
    );
  }

  /** What every block keeps of a token, for those after it; empty parts where its attention keeps nothing. */
  get cacheSizes(): readonly CacheSizes[] {
    return this.blocks.map(({ attention }) => attention.cacheSizes ?? {});
  }

  /** Why no pass can go on from a cache, so that a text is computed again for every token; undefined where one can. */
  get wholeText(): string | undefined {
    for (const [index, { attention, feedForward }] of this.blocks.entries()) {
      if (!attention.forwardCached)
        return `${this.options.positions} positions read the states of a whole segment`;
      if (feedForward.wholeText !== undefined) return `layer ${index}: ${feedForward.wholeText}`;
    }
    return undefined;
  }

  /** Features of a head; of its rotated part where it has two. */
  private get headSize(): number {
    const { headSize, hiddenSize, numHeads, latentAttention } = this.options;
    return latentAttention?.rotaryHeadSize ?? headSize ?? hiddenSize / numHeads;
  }

  private createHead(): Linear {
    const { hiddenSize, vocabSize, outputBias, initialization } = this.options;
    const rule: WeightInitialization = initialization.head
      ? { ...this.weightRule(), kind: initialization.head }
      : this.weightRule();
    return new Linear(hiddenSize, vocabSize, weightInitializer(rule, hiddenSize), {
      bias: outputBias && biasInitializer(rule, hiddenSize),
    });
  }

  private createPositions(): LanguageModel['position'] {
    const { positions, contextLength, hiddenSize, numHeads } = this.options;
    switch (positions) {
      case 'learned':
        return new Embedding(contextLength, hiddenSize, this.tableInitializer(contextLength, hiddenSize));
      case 'relative':
        return new RelativePositionBias(numHeads, false, this.tableInitializer(32, numHeads));
      case 'span': {
        const span = this.memoryLengths!.training;
        return new SpanPositions(this.headSize, span, this.tableInitializer(this.headSize, span));
      }
      default:
        return undefined;
    }
  }

  private createBlock(index: number, routers: RouterPool): TransformerBlock {
    const { hiddenSize, blockNorm, dropout: rate } = this.options;
    const feedForward = this.createFeedForward(index, routers);
    if (feedForward.ownsResidual && blockNorm !== 'pre') {
      throw new RangeError(
        `layer ${index} has its own norm and residual: blockNorm must be pre, not ${blockNorm}`,
      );
    }
    return new TransformerBlock(
      {
        attentionNorm: createNorm(this.options, hiddenSize),
        attention: this.createAttention(),
        feedForwardNorm: feedForward.ownsResidual ? undefined : createNorm(this.options, hiddenSize),
        feedForward,
        innerNorm: blockNorm === 'postDouble' ? createNorm(this.options, hiddenSize) : undefined,
      },
      blockNorm,
      rate,
    );
  }

  private createAttention(): AttentionLayer & Module {
    const { hiddenSize, numHeads, numKeyValueHeads = numHeads, positions } = this.options;
    const { bias, attentionBias = bias ? 'all' : 'none' } = this.options;
    const sizes = { hiddenSize, numHeads, headSize: this.headSize, bias };
    const weight = weightInitializer(this.weightRule(), hiddenSize);
    const output = weightInitializer(this.outputInitialization(), numHeads * this.headSize);
    switch (positions) {
      case 'transformerXL': {
        const learnedScale = this.options.learnedAttentionScale ?? true;
        return new TransformerXLAttention({ ...sizes, learnedScale }, weight, output);
      }
      case 'span':
        return new SpanAttention(sizes, weight, output);
      default: {
        const {
          latentAttention: latent,
          rotary,
          queryKeyNorm: over,
          normEpsilon,
          clipQueryKeyValue,
        } = this.options;
        const biases = { bias: attentionBias !== 'none', outputBias: attentionBias === 'all' };
        if (latent) {
          const factor = scoreFactor(rotary?.scaling);
          return new LatentAttention(
            { ...latent, ...biases, hiddenSize, numHeads, scoreFactor: factor },
            (fanIn) => weightInitializer(this.weightRule(), fanIn),
            weightInitializer(this.outputInitialization(), numHeads * latent.valueHeadSize),
          );
        }
        const queryKeyNorm = over && { over, epsilon: normEpsilon };
        const all = { ...sizes, ...biases, numKeyValueHeads, queryKeyNorm, clip: clipQueryKeyValue };
        return new Attention(all, weight, output);
      }
    }
  }

  private createFeedForward(layerIndex: number, routers: RouterPool): FeedForward {
    const { sparse, ...options } = this.options;
    const numSparseLayers = sparse ? countSparseBlocks(sparse, options.numLayers) : 0;
    const sizes: LayerSizes = {
      ...options,
      initialization: this.weightRule(),
      outputInitialization: this.outputInitialization(),
      layerIndex,
      sparseIndex: sparse ? countSparseBlocks(sparse, layerIndex) : 0,
      numStackSparseLayers: numSparseLayers,
      numSparseLayers,
      routers,
    };
    if (sparse && isSparseBlock(sparse, layerIndex)) return createSparseLayer(sparse, sizes);
    return new DenseFeedForward(
      { ...sizes, bias: options.feedForwardBias ?? options.bias },
      weightInitializer(sizes.initialization, sizes.hiddenSize),
      weightInitializer(sizes.outputInitialization, sizes.intermediateSize),
    );
  }

  private tableInitializer(rows: number, columns: number): Initializer {
    const { embedding } = this.options.initialization;
    return embedding === 'xavier' ? xavierUniform(columns, rows) : normal(embedding);
  }

  private weightRule(): WeightInitialization {
    const { initialization, numLayers } = this.options;
    return { ...initialization, numLayers };
  }

  private outputInitialization(): WeightInitialization {
    const { numLayers, initialization } = this.options;
    const rule = this.weightRule();
    if (!initialization.scaleOutputsByDepth) return rule;
    const shrink = 1 / (2 * numLayers);
    return {
      ...rule,
      scale: rule.scale * shrink,
      standardDeviation: rule.standardDeviation * Math.sqrt(shrink),
    };
  }

  /**
   * Traces the model over static `[batch, time]` ids.
   *
   * With a cache, the tokens come after those it holds, and sparse layers serve every choice: a pass over a few tokens
   * cannot know who took places before. Padding is then at the right, each sequence's own; idle sequences have none but
   * padding.
   * @throws RangeError if there are more than {@link windowLength}; a memory is given to a model without one; or a cache
   *   to a model that needs its text in one piece.
   */
  forward(
    { tokens, mask, languages, logitRows, memory, cache }: LanguageModelInputs,
    context: TraceContext,
  ): LanguageModelOutput {
    const [batch, time] = tokens.shape as [number, number];
    const { hiddenSize, contextLength, dropout: rate, outputDropout } = this.options;
    if (time > this.windowLength)
      throw new RangeError(`${time} tokens do not fit contextLength ${contextLength}`);
    if (memory && !this.memoryLengths)
      throw new RangeError(`${this.options.positions} positions have no memory`);
    if (cache && this.wholeText !== undefined) throw new RangeError(`no pass can go on: ${this.wholeText}`);
    const past = cache === 'start' ? undefined : cache;
    const positions = past && positionsAfter(past, time, this.windowLength);
    let hidden = this.embedding.forward(tokens);
    if (this.position instanceof Embedding)
      hidden = add(hidden, this.position.forward(positions ?? range(time)));
    hidden = dropout(hidden, rate, 'embedding', context);

    const before = memory?.hidden ?? this.beforeText(batch, hidden);
    const attention = this.attentionInputs(hidden, mask, { ...memory, hidden: before }, positions);
    const attentionPast = past && positions && this.attentionPast(past, hidden, positions);
    const flat = (x: Tensor | undefined): Tensor | undefined => x && reshape(x, [batch * time]);
    const reports = new LayerReports();
    const remembered: Tensor[] = [];
    const kept: CacheEntry[] = [];
    let routing: FeedForwardOutput['routing'];
    this.blocks.forEach((block, layerIndex) => {
      if (memory) remembered.push(pushSegment(memory.hidden[layerIndex], hidden));
      const blockPast: BlockPast = {
        memory: before[layerIndex],
        cache: attentionPast ? { ...attentionPast, entry: past.entries[layerIndex] } : cache && 'start',
      };
      const result = block.forward(hidden, attention, blockPast, {
        ...context,
        layerIndex,
        site: `blocks.${layerIndex}`,
        batchSize: batch,
        causal: true,
        tokenMask: flat(mask),
        positions: flat(positions),
        serveAll: cache !== undefined,
        tokenIds: flat(tokens),
        languageIds: flat(languages),
        previousRecord: reports.records.at(-1),
        previousRouting: routing,
      });
      hidden = result.hidden;
      routing = result.routing ?? routing;
      if (result.entry) kept.push(result.entry);
      reports.add(result, layerIndex);
    });
    const normed = this.norm?.forward(hidden) ?? hidden;
    const all = reshape(dropout(normed, outputDropout, 'output', context), [batch * time, hiddenSize]);
    const rows = logitRows ? gather(all, logitRows) : all;
    return {
      logits: this.head ? this.head.forward(rows) : this.embedding.logits(rows),
      ...reports,
      memory: memory && {
        hidden: remembered,
        visible: memory.visible && pushSegment(memory.visible, mask ?? visibleTokens(hidden)),
      },
      cache: cache && kept,
    };
  }

  /** What layers remember where a text begins: nothing, or zeros that span attention sees. */
  private beforeText(batch: number, like: Tensor): readonly Tensor[] {
    if (!(this.position instanceof SpanPositions)) return [];
    const { hiddenSize, numLayers } = this.options;
    const zeros = emptySpan(batch, this.memoryLengths!.training, hiddenSize, like.dtype);
    return new Array<Tensor>(numLayers).fill(zeros);
  }

  private attentionInputs(
    hidden: Tensor,
    mask: Tensor | undefined,
    memory: SegmentMemory,
    positions: Tensor | undefined,
  ): Omit<AttentionInputs, 'site'> {
    const [batch, time] = hidden.shape as [number, number];
    const { positions: kind, attentionDropout: dropoutRate, hiddenSize } = this.options;
    const length = (memory.hidden.at(0)?.shape[1] as number | undefined) ?? 0;
    const past = memory.visible ?? (mask && length > 0 ? fill(hidden.dtype, [batch, length], 1) : undefined);
    const keyMask = past ? concat([past, mask ?? visibleTokens(hidden)], 1) : mask;
    const shared = { causal: true, dropoutRate, keyMask };
    if (kind === 'rotary') {
      const { rotary: settings } = this.options;
      // Tokens that stand anywhere pick their rows from the table of all positions.
      const rows = positions ? this.windowLength : time;
      return {
        ...shared,
        rotary: { ...rotaryTables(rows, this.headSize, hidden.dtype, settings), positions },
      };
    }
    if (kind === 'transformerXL')
      return { ...shared, relativePositions: sinusoidTable(length + time, hiddenSize, hidden.dtype) };
    if (this.position instanceof SpanPositions)
      return { ...shared, relativePositions: this.position.weight.tensor };
    if (this.position instanceof RelativePositionBias)
      return { ...shared, bias: this.position.forward(time, time) };
    return shared;
  }

  /** What all blocks are told about the slots of a cache. */
  private attentionPast(
    past: DecodingCache,
    { dtype }: Tensor,
    positions: Tensor,
  ): Omit<AttentionPast, 'entry'> {
    const capacity = capacityOf(past);
    return {
      mask: usedSlots(past, capacity, dtype),
      ...(this.position instanceof RelativePositionBias && { bias: this.position.at(positions, capacity) }),
    };
  }
}

/** A mask without padding: ones `[batch, time]`. */
function visibleTokens(hidden: Tensor): Tensor {
  return fill(hidden.dtype, hidden.shape.slice(0, 2), 1);
}

/** Sum of `coefficient · value` over auxiliary losses, or undefined when there is none. */
export function totalAuxiliaryLoss(losses: readonly AuxiliaryLoss[]): Tensor | undefined {
  return losses
    .filter(({ coefficient }) => coefficient > 0)
    .map(({ coefficient, value }) => multiply(value, coefficient))
    .reduce<Tensor | undefined>((total, term) => (total ? add(total, term) : term), undefined);
}
