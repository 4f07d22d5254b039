/**
 * One pre-norm block of an encoder or a decoder: self-attention, in decoders attention to the encoder's states, then
 * whatever feed-forward layer it was given.
 * @module
 */
import { add, reshape, type Tensor } from '../graph/index.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput } from '../moe/index.js';
import {
  type Attention,
  type AttentionInputs,
  type AttentionPast,
  type CacheEntry,
  dropout,
  Module,
} from '../nn/index.js';
import type { Norm } from './transformer-block.js';

/** Positions, masks and factors of one attention; the site is the block's. */
export type BlockAttention = Omit<AttentionInputs, 'site'>;

/** Self-attention of one block. */
export interface SelfAttentionInputs extends BlockAttention {
  /** What it kept of the tokens before; or `start`, where targets begin and what later passes need is to be kept. */
  readonly cache?: AttentionPast | 'start' | undefined;
}

/** What a decoder's block attends to: the encoder's states as `memory`, or the keys and values that it made of them. */
export interface CrossAttentionInputs extends BlockAttention {
  readonly entry?: CacheEntry | undefined;
}

/** Attention to the encoder's states. */
export interface CrossAttention {
  readonly crossAttentionNorm: Norm;
  readonly crossAttention: Attention;
}

/** Parts of an {@link EncoderDecoderBlock}. */
export interface EncoderDecoderBlockParts {
  readonly selfAttentionNorm: Norm;
  readonly selfAttention: Attention;
  /** Decoders only. */
  readonly cross: CrossAttention | undefined;
  /** Absent where the feed-forward layer normalises its input itself. */
  readonly feedForwardNorm: Norm | undefined;
  readonly feedForward: FeedForward & Module;
}

/** `h ← h + dropout(f(norm(h)))` for each of its two or three sub-layers f. */
export class EncoderDecoderBlock extends Module {
  readonly selfAttentionNorm: Norm;
  readonly selfAttention: Attention;
  readonly crossAttentionNorm: Norm | undefined;
  readonly crossAttention: Attention | undefined;
  readonly feedForwardNorm: Norm | undefined;
  readonly feedForward: FeedForward & Module;

  constructor(
    { selfAttentionNorm, selfAttention, cross, feedForwardNorm, feedForward }: EncoderDecoderBlockParts,
    private readonly residualDropout: number,
  ) {
    super();
    this.selfAttentionNorm = selfAttentionNorm;
    this.selfAttention = selfAttention;
    this.crossAttentionNorm = cross?.crossAttentionNorm;
    this.crossAttention = cross?.crossAttention;
    this.feedForwardNorm = feedForwardNorm;
    this.feedForward = feedForward;
  }

  /**
   * `[batch, time, hiddenSize]` → the same shape, with what the feed-forward layer reports.
   * @param cross what a decoder's block attends to
   * @returns also what is to be kept of these tokens, where a cache was given.
   */
  forward(
    hidden: Tensor,
    { cache, ...self }: SelfAttentionInputs,
    cross: CrossAttentionInputs | undefined,
    context: FeedForwardContext,
  ): Omit<FeedForwardOutput, 'output'> & { hidden: Tensor; entry?: CacheEntry } {
    const { site } = context;
    const drop = (x: Tensor, part: string): Tensor =>
      dropout(x, this.residualDropout, `${site}.${part}`, context);
    const normed = this.selfAttentionNorm.forward(hidden);
    const inputs = { ...self, site: `${site}.selfAttention` };
    const past = cache === 'start' ? undefined : cache;
    const cached = cache && this.selfAttention.forwardCached(normed, inputs, past, context);
    const attended = cached?.output ?? this.selfAttention.forward(normed, inputs, context);
    let middle = add(hidden, drop(attended, 'selfAttentionOutput'));
    if (this.crossAttention && this.crossAttentionNorm && cross) {
      const { entry, ...rest } = cross;
      const reading = { ...rest, site: `${site}.crossAttention` };
      const queries = this.crossAttentionNorm.forward(middle);
      const read = entry
        ? this.crossAttention.attend(queries, entry, reading, context)
        : this.crossAttention.forward(queries, reading, context);
      middle = add(middle, drop(read, 'crossAttentionOutput'));
    }
    const rows = reshape(this.feedForwardNorm?.forward(middle) ?? middle, [-1, middle.shape[2]]);
    const { output, ...report } = this.feedForward.forward(rows, { ...context, site: `${site}.feedForward` });
    const restored = reshape(output, middle.shape);
    return {
      hidden: this.feedForward.ownsResidual ? restored : add(middle, drop(restored, 'feedForwardOutput')),
      ...report,
      ...(cached && { entry: cached.entry }),
    };
  }
}
