/**
 * One Transformer block: attention, then whatever feed-forward layer it was given.
 * @module
 */
import { add, concat, reshape, type Tensor } from '../graph/index.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput } from '../moe/index.js';
import {
  dropout,
  LayerNorm,
  Module,
  RMSNorm,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionPast,
  type CacheEntry,
} from '../nn/index.js';

/** Either kind of normalisation. */
export type Norm = RMSNorm | LayerNorm;

/** Makes a normalisation layer; `epsilon` is that of its class when absent. */
export function createNorm(
  { norm, normEpsilon }: { readonly norm: 'rms' | 'layer'; readonly normEpsilon?: number | undefined },
  size: number,
): Norm {
  return norm === 'rms' ? new RMSNorm(size, normEpsilon) : new LayerNorm(size, normEpsilon);
}

/** Where a block normalises. */
export type BlockNorm = 'pre' | 'post' | 'postDouble';

/** Parts of a {@link TransformerBlock}. */
export interface TransformerBlockParts {
  readonly attentionNorm: Norm;
  readonly attention: AttentionLayer & Module;
  /** Absent where the feed-forward layer normalises its input itself. */
  readonly feedForwardNorm: Norm | undefined;
  readonly feedForward: FeedForward;
  /** Around the feed-forward layer's first residual, for `postDouble`. */
  readonly innerNorm?: Norm | undefined;
}

/** What a block is given of the tokens before. */
export interface BlockPast {
  /** Its inputs for them, `[batch, length, hiddenSize]`; normalised as its input is. */
  readonly memory?: Tensor | undefined;
  /** What its attention kept of them; or `start`, where a text begins and what later passes need is to be kept. */
  readonly cache?: AttentionPast | 'start' | undefined;
}

/**
 * With attention A and feed-forward layer F:
 *
 * - `pre`: `h ← h + dropout(A(norm(h)))`, then `h ← h + dropout(F(norm(h)))`;
 * - `post`: `h ← norm(h + dropout(A(h)))`, then `h ← norm(h + dropout(F(h)))`;
 * - `postDouble`: `h ← norm₁(h + A(h))`, `u ← norm(h + dropout(F(h)))`, `h ← norm₂(h + u)` (ACMoE's released code).
 */
export class TransformerBlock extends Module {
  readonly attentionNorm: Norm;
  readonly attention: AttentionLayer & Module;
  readonly feedForwardNorm: Norm | undefined;
  readonly feedForward: FeedForward;
  readonly innerNorm: Norm | undefined;

  constructor(
    parts: TransformerBlockParts,
    private readonly blockNorm: BlockNorm,
    private readonly residualDropout: number,
  ) {
    super();
    this.attentionNorm = parts.attentionNorm;
    this.attention = parts.attention;
    this.feedForwardNorm = parts.feedForwardNorm;
    this.feedForward = parts.feedForward;
    this.innerNorm = parts.innerNorm;
  }

  /**
   * `[batch, time, hiddenSize]` → the same shape, with what the feed-forward layer reports.
   * @param attention positions and masks, without the site, which is the block's.
   * @returns also what is to be kept of these tokens, where a cache was given.
   */
  forward(
    hidden: Tensor,
    attention: Omit<AttentionInputs, 'site'>,
    past: BlockPast,
    context: FeedForwardContext,
  ): Omit<FeedForwardOutput, 'output'> & { hidden: Tensor; entry?: CacheEntry } {
    const drop = (x: Tensor, part: string): Tensor =>
      dropout(x, this.residualDropout, `${context.site}.${part}`, context);
    const isPre = this.blockNorm === 'pre';
    const before = (x: Tensor): Tensor => (isPre ? this.attentionNorm.forward(x) : x);
    const { output: attended, entry } = this.attend(before(hidden), attention, past, before, context);
    const added = this.innerNorm ? attended : drop(attended, 'attentionOutput');
    const joined = add(hidden, added);
    const middle = isPre ? joined : this.attentionNorm.forward(joined);
    const rows = isPre && this.feedForwardNorm ? this.feedForwardNorm.forward(middle) : middle;
    const { output, ...layerReport } = this.feedForward.forward(reshape(rows, [-1, middle.shape[2]]), {
      ...context,
      site: `${context.site}.feedForward`,
    });
    const report = { ...layerReport, ...(entry && { entry }) };
    const last = reshape(output, middle.shape);
    if (this.feedForward.ownsResidual) return { hidden: last, ...report };
    const sum = add(middle, drop(last, 'feedForwardOutput'));
    if (isPre) return { hidden: sum, ...report };
    const outer = this.innerNorm ? add(middle, this.innerNorm.forward(sum)) : sum;
    return { hidden: this.feedForwardNorm!.forward(outer), ...report };
  }

  private attend(
    queries: Tensor,
    inputs: Omit<AttentionInputs, 'site'>,
    { memory, cache }: BlockPast,
    before: (x: Tensor) => Tensor,
    context: FeedForwardContext,
  ): { output: Tensor; entry?: CacheEntry } {
    const site = `${context.site}.attention`;
    if (cache === undefined) {
      const all = memory && { memory: concat([before(memory), queries], 1) };
      return { output: this.attention.forward(queries, { ...inputs, ...all, site }, context) };
    }
    if (!this.attention.forwardCached) throw new RangeError(`${site} cannot go on from a cache`);
    const past = cache === 'start' ? undefined : cache;
    return this.attention.forwardCached(queries, { ...inputs, site }, past, context);
  }
}
