/**
 * One pre-norm block of an encoder or a decoder: self-attention, in decoders attention to the encoder's states, then
 * whatever feed-forward layer it was given.
 * @module
 */
import { add, reshape, type Tensor } from '../graph/index.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput } from '../moe/index.js';
import { type Attention, type AttentionInputs, dropout, Module } from '../nn/index.js';
import type { Norm } from './transformer-block.js';

/** Positions, masks and factors of one attention; the site is the block's. */
export type BlockAttention = Omit<AttentionInputs, 'site'>;

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
   * @param cross what a decoder's block attends to; its `memory` is the encoder's states.
   */
  forward(
    hidden: Tensor,
    self: BlockAttention,
    cross: BlockAttention | undefined,
    context: FeedForwardContext,
  ): Omit<FeedForwardOutput, 'output'> & { hidden: Tensor } {
    const { site } = context;
    const drop = (x: Tensor, part: string): Tensor =>
      dropout(x, this.residualDropout, `${site}.${part}`, context);
    const attended = this.selfAttention.forward(
      this.selfAttentionNorm.forward(hidden),
      { ...self, site: `${site}.selfAttention` },
      context,
    );
    let middle = add(hidden, drop(attended, 'selfAttentionOutput'));
    if (this.crossAttention && this.crossAttentionNorm && cross) {
      const read = this.crossAttention.forward(
        this.crossAttentionNorm.forward(middle),
        { ...cross, site: `${site}.crossAttention` },
        context,
      );
      middle = add(middle, drop(read, 'crossAttentionOutput'));
    }
    const rows = reshape(this.feedForwardNorm?.forward(middle) ?? middle, [-1, middle.shape[2]]);
    const { output, ...report } = this.feedForward.forward(rows, { ...context, site: `${site}.feedForward` });
    const restored = reshape(output, middle.shape);
    return {
      hidden: this.feedForward.ownsResidual ? restored : add(middle, drop(restored, 'feedForwardOutput')),
      ...report,
    };
  }
}
