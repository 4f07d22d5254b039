/**
 * One pre-norm Transformer block: attention, then whatever feed-forward layer it was given.
 * @module
 */
import { add, reshape, type Tensor } from '../graph/index.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput } from '../moe/index.js';
import { type Attention, dropout, LayerNorm, Module, RMSNorm, type AttentionInputs } from '../nn/index.js';

/** Either kind of normalisation. */
export type Norm = RMSNorm | LayerNorm;

/** Makes a normalisation layer. */
export function createNorm(kind: 'rms' | 'layer', size: number): Norm {
  return kind === 'rms' ? new RMSNorm(size) : new LayerNorm(size);
}

/** `h ← h + dropout(attention(norm(h)))`, then `h ← h + dropout(feedForward(norm(h)))`. */
export class TransformerBlock extends Module {
  readonly attentionNorm: Norm;
  readonly attention: Attention;
  /** Absent where the feed-forward layer normalises its input itself. */
  readonly feedForwardNorm: Norm | undefined;
  readonly feedForward: FeedForward;

  constructor(
    parts: {
      attentionNorm: Norm;
      attention: Attention;
      feedForwardNorm: Norm | undefined;
      feedForward: FeedForward;
    },
    private readonly residualDropout: number,
  ) {
    super();
    this.attentionNorm = parts.attentionNorm;
    this.attention = parts.attention;
    this.feedForwardNorm = parts.feedForwardNorm;
    this.feedForward = parts.feedForward;
  }

  /**
   * `[batch, time, hiddenSize]` → the same shape, with what the feed-forward layer reports.
   * @param attention positions and masks, without the site, which is the block's.
   */
  forward(
    hidden: Tensor,
    attention: Omit<AttentionInputs, 'site'>,
    context: FeedForwardContext,
  ): Omit<FeedForwardOutput, 'output'> & { hidden: Tensor } {
    const drop = (x: Tensor, part: string): Tensor =>
      dropout(x, this.residualDropout, `${context.site}.${part}`, context);
    const site = `${context.site}.attention`;
    const attended = this.attention.forward(
      this.attentionNorm.forward(hidden),
      { ...attention, site },
      context,
    );
    const middle = add(hidden, drop(attended, 'attentionOutput'));
    const rows = reshape(this.feedForwardNorm?.forward(middle) ?? middle, [-1, middle.shape[2]]);
    const { output, ...report } = this.feedForward.forward(rows, {
      ...context,
      site: `${context.site}.feedForward`,
    });
    if (this.feedForward.ownsResidual) return { hidden: reshape(output, middle.shape), ...report };
    return { hidden: add(middle, drop(reshape(output, middle.shape), 'feedForwardOutput')), ...report };
  }
}
