/**
 * Encoder–decoder Transformer (T5, Switch Transformer, machine translation), dense or with sparse layers in every n-th
 * block of both stacks.
 * @module
 */
import { gather, multiply, reshape, type Tensor } from '../graph/index.js';
import {
  Embedding,
  Linear,
  Module,
  normal,
  weightInitializer,
  type CacheEntry,
  type TraceContext,
} from '../nn/index.js';
import type { CacheInput } from './decoding-cache.js';
import type { EncoderDecoderOptions } from './encoder-decoder-options.js';
import { EncoderDecoderStack } from './encoder-decoder-stack.js';
import type { ModelReport } from './layer-reports.js';

/** Tensors that an encoder–decoder reads. */
export interface EncoderDecoderInputs extends SourceInputs {
  /** Int32 `[batch, targetTime]`: what the decoder has said so far; position t predicts the token after t. */
  readonly target: Tensor;
  /** Float `[batch, targetTime]`: 1 for real tokens, 0 for padding. */
  readonly targetMask?: Tensor;
  /** Int32 `[batch, targetTime]` */
  readonly targetLanguages?: Tensor;
  /** Int32 `[rows]`: the flattened target positions whose logits are wanted; all when absent. */
  readonly logitRows?: Tensor;
}

/** Tensors that the decoder reads once the source has been read. */
export interface DecodeInputs extends Omit<EncoderDecoderInputs, 'source' | 'sourceLanguages'> {
  /** The encoder's states `[batch, sourceTime, hiddenSize]`; or what {@link EncoderDecoder.readSource} made of them. */
  readonly states: Tensor | readonly CacheEntry[];
  /** The target so far, to go on from; `start` where targets begin and what later passes need is to be kept. */
  readonly cache?: CacheInput | undefined;
}

/** What a traced decoder returns. */
export interface DecodeOutput extends ModelReport {
  /** `[batch · targetTime, vocabSize]`, or `[rows, vocabSize]` for chosen rows */
  readonly logits: Tensor;
  /** What the output layer reads, before it is scaled: `[batch, targetTime, hiddenSize]` */
  readonly states: Tensor;
  /** What is to be kept of these target tokens, one entry a block; only where a cache was given. */
  readonly cache: readonly CacheEntry[] | undefined;
}

/** Tensors that the encoder reads. */
export interface SourceInputs {
  /** Int32 `[batch, sourceTime]` */
  readonly source: Tensor;
  /** Float `[batch, sourceTime]`: 1 for real tokens, 0 for padding. */
  readonly sourceMask?: Tensor;
  /** Int32 `[batch, sourceTime]` */
  readonly sourceLanguages?: Tensor;
}

/** What a traced encoder–decoder returns; records, losses and updates are those of both stacks. */
export interface EncoderDecoderOutput extends Omit<DecodeOutput, 'states' | 'cache'> {
  /** What the encoder made of the source, behind its last norm: `[batch, sourceTime, hiddenSize]` */
  readonly sourceStates: Tensor;
  /** What the output layer reads, before it is scaled: `[batch, targetTime, hiddenSize]` */
  readonly targetStates: Tensor;
}

/**
 * Encoder and decoder over one shared table of embeddings. Parameter names follow the properties:
 * `decoder.blocks.0.crossAttention.query.weight`. Records and losses count layers through both stacks: block i of the
 * decoder has the index `numEncoderLayers + i`, and its record is called `decoder.i`.
 */
export class EncoderDecoder extends Module {
  readonly embedding: Embedding;
  readonly encoder: EncoderDecoderStack;
  readonly decoder: EncoderDecoderStack;
  readonly head: Linear | undefined;

  constructor(readonly options: EncoderDecoderOptions) {
    super();
    const { vocabSize, hiddenSize, initialization, numEncoderLayers, tieEmbeddings } = options;
    this.embedding = new Embedding(vocabSize, hiddenSize, normal(initialization.embedding));
    this.encoder = new EncoderDecoderStack(options, 'encoder', 0);
    this.decoder = new EncoderDecoderStack(options, 'decoder', numEncoderLayers);
    this.head = tieEmbeddings
      ? undefined
      : new Linear(hiddenSize, vocabSize, weightInitializer(initialization, hiddenSize));
  }

  /** Why outputs at a target position may depend on later ones, one line a layer of the decoder; empty otherwise. */
  get leaks(): readonly string[] {
    return this.decoder.blocks.flatMap(({ feedForward: { leak } }, index) =>
      leak === undefined ? [] : [`decoder layer ${index}: ${leak}`],
    );
  }

  /** Traces the encoder alone: states `[batch, sourceTime, hiddenSize]`. */
  encode(
    { source, sourceMask, sourceLanguages }: SourceInputs,
    context: TraceContext,
  ): ModelReport & { readonly states: Tensor } {
    const embedded = this.embedding.forward(source);
    return this.encoder.forward(
      { embedded, tokens: source, mask: sourceMask, languages: sourceLanguages },
      context,
    );
  }

  /** Traces the model over static `[batch, sourceTime]` and `[batch, targetTime]` ids. */
  forward(inputs: EncoderDecoderInputs, context: TraceContext): EncoderDecoderOutput {
    const encoded = this.encode(inputs, context);
    const decoded = this.decode({ ...inputs, states: encoded.states }, context);
    return {
      logits: decoded.logits,
      sourceStates: encoded.states,
      targetStates: decoded.states,
      records: [...encoded.records, ...decoded.records],
      losses: [...encoded.losses, ...decoded.losses],
      updates: [...encoded.updates, ...decoded.updates],
    };
  }

  /**
   * Traces the encoder, and the keys and values that the decoder's blocks read of its states: one entry a block,
   * `[batch, numHeads, sourceTime, headSize]`. They are the same for every token of the target.
   */
  readSource(inputs: SourceInputs, context: TraceContext): readonly CacheEntry[] {
    const { states } = this.encode(inputs, context);
    return this.decoder.blocks.map(({ crossAttention }) => crossAttention!.keysAndValues(states));
  }

  /** Traces the decoder over static `[batch, targetTime]` ids. What a cache means is told at `LanguageModel.forward`. */
  decode(
    { target, targetMask, targetLanguages, states, sourceMask, cache, logitRows }: DecodeInputs,
    context: TraceContext,
  ): DecodeOutput {
    const [batch, time] = target.shape as [number, number];
    const decoded = this.decoder.forward(
      {
        embedded: this.embedding.forward(target),
        tokens: target,
        mask: targetMask,
        languages: targetLanguages,
        memory: { states, mask: sourceMask },
        cache,
      },
      context,
    );
    const { hiddenSize, scaleLogits } = this.options;
    const all = reshape(decoded.states, [batch * time, hiddenSize]);
    const rows = logitRows ? gather(all, logitRows) : all;
    const read = scaleLogits ? multiply(rows, 1 / Math.sqrt(hiddenSize)) : rows;
    return {
      logits: this.head ? this.head.forward(read) : this.embedding.logits(read),
      states: decoded.states,
      records: decoded.records,
      losses: decoded.losses,
      updates: decoded.updates,
      cache: decoded.cache,
    };
  }
}
