/**
 * Auxiliary losses that keep experts in use and router logits small.
 * @module
 */
import {
  add,
  cast,
  concat,
  divide,
  erf,
  exp,
  greater,
  log,
  logSoftmax,
  logSumExp,
  maximum,
  mean,
  minimum,
  multiply,
  oneHot,
  reshape,
  square,
  slice,
  stopGradient,
  subtract,
  sum,
  topK as largest,
  where,
  type DType,
  type Tensor,
} from '../graph/index.js';
import { maskedMean } from '../nn/index.js';

/**
 * `paper`: `N Σ f_i P_i`. `releasedSigmaMoe`: the mean of `f_i p_i` over tokens and experts, `(1/N) Σ f_i P_i`, as the
 * code of σ-MoE's Switch baseline has it: N² times weaker at the same coefficient (arXiv 2310.10837, released sweeps).
 */
export type BalanceForm = 'paper' | 'releasedSigmaMoe';

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
 * @param form whose factor before the sum
 */
export function balanceLoss(
  probabilities: Tensor,
  experts: Tensor,
  mask: Tensor | undefined,
  groups = 1,
  form: BalanceForm = 'paper',
): Tensor {
  const [tokens, numExperts] = probabilities.shape as [number, number];
  const topK = experts.shape[1] as number;
  const factor = form === 'paper' ? numExperts : 1 / numExperts;
  const chosen = sum(oneHot(experts, numExperts, probabilities.dtype), 1);
  const weights = mask && reshape(mask, [tokens, 1]);
  const perGroup = (x: Tensor): Tensor =>
    sum(reshape(weights ? multiply(x, weights) : x, [groups, tokens / groups, numExperts]), 1);
  const counts = mask && sum(reshape(mask, [groups, tokens / groups]), 1, true);
  const average = (x: Tensor): Tensor =>
    counts ? divide(perGroup(x), maximum(counts, 1)) : multiply(perGroup(x), groups / tokens);
  const fraction = multiply(stopGradient(average(chosen)), 1 / topK);
  const ofGroups = multiply(sum(multiply(fraction, average(probabilities)), 1), factor);
  if (!counts || groups === 1) return mean(ofGroups);
  // A sequence of nothing but padding has no balance to average in.
  return divide(sum(ofGroups), maximum(sum(minimum(counts, 1)), 1));
}

/**
 * Balance of all layers in one: `N Σ_i F_i P_i`, where `F_i` counts how often a token of any layer chose expert i (so that
 * all `F_i` add up to topK) and `P_i` is its mean probability over tokens and layers. Layers that lean to different
 * experts even each other out. This is the auxiliary loss that `transformers` adds to those of Mixtral, OLMoE and
 * Qwen-MoE; with one layer it is topK times {@link balanceLoss}.
 *
 * @param layers decisions over the same tokens, as in routing records
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 */
export function pooledBalanceLoss(
  layers: readonly { readonly probabilities: Tensor; readonly experts: Tensor }[],
  mask: Tensor | undefined,
): Tensor {
  const probabilities = concat(
    layers.map((layer) => layer.probabilities),
    0,
  );
  const experts = cast(
    concat(
      layers.map((layer) => layer.experts),
      0,
    ),
    'int64',
  );
  const masks =
    mask &&
    concat(
      layers.map(() => mask),
      0,
    );
  return multiply(balanceLoss(probabilities, experts, masks), experts.shape[1] as number);
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

/**
 * `Σ_e p_e ln p_e` with `p` the mean of `softmax(logits)` over real tokens: minus the entropy of the mean decision, in
 * nats; −ln N when experts are used evenly, 0 when one gets everything. Logarithms throughout, so that an expert of
 * vanishing probability still has a gradient. σ-MoE, arXiv 2310.10837 §5 eq. 20–21, without its coefficient.
 *
 * @param logits `[tokens, numExperts]`
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 */
export function entropyLoss(logits: Tensor, mask: Tensor | undefined): Tensor {
  const tokens = logits.shape[0] as number;
  const each = logSoftmax(logits);
  if (!mask) return negativeEntropy(subtract(logSumExp(each, 0), Math.log(tokens)));
  const real = cast(mask, logits.dtype);
  const counted = where(greater(reshape(real, [tokens, 1]), 0), each, ABSENT);
  return negativeEntropy(subtract(logSumExp(counted, 0), log(maximum(sum(real), 1))));
}

/** Logarithm of a share that is none: finite, so that nothing but padding gives 0 and not NaN. */
const ABSENT = -1e30;

function negativeEntropy(logShares: Tensor): Tensor {
  return sum(multiply(exp(logShares), logShares));
}

/**
 * `CV(Σ_t gates)²`, the squared coefficient of variation of the experts' importance: 0 when all weigh the same.
 * Shazeer et al., arXiv 1701.06538 eq. 6–7, without its coefficient.
 *
 * @param experts int64 `[tokens, topK]`
 * @param gates `[tokens, topK]`
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 */
export function importanceLoss(
  experts: Tensor,
  gates: Tensor,
  numExperts: number,
  mask: Tensor | undefined,
): Tensor {
  const shares = multiply(oneHot(experts, numExperts, gates.dtype), reshape(gates, [...gates.shape, 1]));
  return squaredVariation(perExpert(sum(shares, 1), mask));
}

/** A decision of a noisy top-k router, as its load is estimated from it. */
export interface NoisyDecision {
  /** Scores before the noise `[tokens, numExperts]` */
  readonly clean: Tensor;
  /** The same with noise, which chose. */
  readonly noisy: Tensor;
  /** σ of the noise of each score, positive. */
  readonly deviation: Tensor;
  /** Int64 `[tokens, topK]`: the largest of `noisy`. */
  readonly experts: Tensor;
}

/**
 * `CV(Load)²` with `Load_e = Σ_t Φ((clean_te − threshold_te) / σ_te)`: the chance that the expert would be chosen if
 * its noise alone were drawn again; the threshold is the k-th largest noisy score of the other experts. A smooth
 * stand-in for the number of tokens. Shazeer et al., arXiv 1701.06538 appendix A eq. 8–11, without its coefficient.
 *
 * @param mask float `[tokens]`, 1 for real tokens; all are real when absent
 */
export function loadLoss(
  { clean, noisy, deviation, experts }: NoisyDecision,
  mask: Tensor | undefined,
): Tensor {
  const numExperts = clean.shape[1] as number;
  const topK = experts.shape[1] as number;
  // With every expert chosen there is no one to be beaten: all loads are the same.
  if (topK === numExperts) return squaredVariation(perExpert(add(multiply(clean, 0), 1), mask));
  const { values } = largest(noisy, topK + 1);
  const isChosen = greater(sum(oneHot(experts, numExperts, clean.dtype), 1), 0);
  const threshold = where(isChosen, slice(values, 1, topK, topK + 1), slice(values, 1, topK - 1, topK));
  const standardized = divide(subtract(clean, threshold), deviation);
  const chance = multiply(add(erf(multiply(standardized, Math.SQRT1_2)), 1), 0.5);
  return squaredVariation(perExpert(chance, mask));
}

/** Sum over real tokens: `[tokens, numExperts]` → `[numExperts]` */
function perExpert(values: Tensor, mask: Tensor | undefined): Tensor {
  return sum(mask ? multiply(values, reshape(cast(mask, values.dtype), [-1, 1])) : values, 0);
}

/** Variance over squared mean; 0 where everything is 0. */
export function squaredVariation(values: Tensor): Tensor {
  const average = mean(values);
  return divide(mean(square(subtract(values, average))), add(square(average), 1e-10));
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
