/**
 * Auxiliary losses that keep experts in use and router logits small.
 * @module
 */
import {
  cast,
  divide,
  logSumExp,
  maximum,
  mean,
  minimum,
  multiply,
  oneHot,
  reshape,
  square,
  stopGradient,
  sum,
  type DType,
  type Tensor,
} from '../graph/index.js';
import { maskedMean } from '../nn/index.js';

/**
 * `N Σ_i f_i P_i` with `f_i` the fraction of choices that went to expert i (before any drop; no gradient) and `P_i`
 * its mean probability, over the real tokens of each group, averaged over the groups that have any. 1 under uniform
 * routing.
 * Switch Transformer eq. 4–6, without its coefficient.
 *
 * @param probabilities `[tokens, numExperts]`
 * @param experts int64 `[tokens, topK]`
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 * @param groups tokens are routed in this many consecutive groups of equal size
 */
export function balanceLoss(
  probabilities: Tensor,
  experts: Tensor,
  mask: Tensor | undefined,
  groups = 1,
): Tensor {
  const [tokens, numExperts] = probabilities.shape as [number, number];
  const topK = experts.shape[1] as number;
  const chosen = sum(oneHot(experts, numExperts, probabilities.dtype), 1);
  const weights = mask && reshape(mask, [tokens, 1]);
  const perGroup = (x: Tensor): Tensor =>
    sum(reshape(weights ? multiply(x, weights) : x, [groups, tokens / groups, numExperts]), 1);
  const counts = mask && sum(reshape(mask, [groups, tokens / groups]), 1, true);
  const average = (x: Tensor): Tensor =>
    counts ? divide(perGroup(x), maximum(counts, 1)) : multiply(perGroup(x), groups / tokens);
  const fraction = multiply(stopGradient(average(chosen)), 1 / topK);
  const ofGroups = multiply(sum(multiply(fraction, average(probabilities)), 1), numExperts);
  if (!counts || groups === 1) return mean(ofGroups);
  // A sequence of nothing but padding has no balance to average in.
  return divide(sum(ofGroups), maximum(sum(minimum(counts, 1)), 1));
}

/**
 * `mean_t (log Σ_j exp z_tj)²`: keeps logits from drifting to where float32 rounds (ST-MoE, arXiv 2202.08906 eq. 5),
 * without its coefficient.
 *
 * @param logits `[tokens, numExperts]`
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 */
export function routerZLoss(logits: Tensor, mask: Tensor | undefined): Tensor {
  const squares = square(logSumExp(logits, -1));
  return mask ? maskedMean(squares, mask) : mean(squares);
}

/** Choices per expert over real tokens: int32 `[numExperts]`. */
export function expertLoad(experts: Tensor, numExperts: number, mask: Tensor | undefined): Tensor {
  const chosen = sum(oneHot(experts, numExperts, 'float32'), 1);
  const counted = mask ? multiply(chosen, cast(reshape(mask, [-1, 1]), 'float32')) : chosen;
  return cast(sum(counted, 0), 'int32');
}

/** Gates `[tokens, topK]` as shares of all experts, 0 for those that were not chosen: `[tokens, numExperts]`. */
export function chosenShares(experts: Tensor, gates: Tensor, numExperts: number, dtype: DType): Tensor {
  const votes = sum(multiply(oneHot(experts, numExperts, dtype), reshape(gates, [...gates.shape, 1])), 1);
  return divide(votes, maximum(sum(votes, 1, true), 1e-9));
}
