/**
 * Dropout of whole experts from a router's choice (σ-MoE, arXiv 2310.10837 §5 eq. 22).
 * @module
 */
import { greaterEqual, type Tensor } from '../../graph/index.js';
import type { FeedForwardContext } from '../feed-forward.js';

/**
 * Which experts a token may choose in this step: bool `[tokens, numExperts]`, drawn for every token and expert by
 * itself; undefined when all may be chosen, as always outside training. The survivors are not scaled up.
 */
export function survivingExperts(
  scores: Tensor,
  rate: number,
  context: FeedForwardContext,
): Tensor | undefined {
  if (!context.training || rate === 0) return undefined;
  const site = `${context.site}.expertDropout`;
  return greaterEqual(context.noise.request(site, 'uniform', scores.dtype, scores.shape as number[]), rate);
}
