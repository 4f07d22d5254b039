/**
 * Losses of a predictor that learns from a router: cross-entropy and truncated knowledge distillation.
 * @module
 */
import { z } from 'zod';
import {
  abs,
  add,
  gatherElements,
  log,
  logSoftmax,
  maximum,
  mean,
  multiply,
  softmax,
  subtract,
  sum,
  type Tensor,
} from '../../graph/index.js';
import { crossEntropy, maskedMean } from '../../nn/index.js';

/** Which loss a predictor is trained with. */
export const predictorLossSchema = z.discriminatedUnion('kind', [
  /** Cross-entropy against the router's first choice. */
  z.strictObject({ kind: z.literal('crossEntropy') }),
  /** λ · cross-entropy + distance of the shares inside the router's T best experts. */
  z.strictObject({
    kind: z.literal('truncatedDistillation'),
    /** `l1`: mean over tokens and experts of |p − q| (released code); `kl`: mean over tokens of KL(q ‖ p). */
    distance: z.enum(['l1', 'kl']).default('l1'),
    /** SiDA's λ; 0 leaves the cross-entropy out. */
    crossEntropyWeight: z.number().min(0).default(0.005),
    /** SiDA's T: only so many of the router's best experts count, or all where there are fewer. */
    truncation: z.int().min(1).default(30),
  }),
]);

/** Options of {@link predictorLoss}. */
export type PredictorLossOptions = z.infer<typeof predictorLossSchema>;

/** What the router said of the tokens of one layer. */
export interface TeacherRouting {
  /** Int32 `[tokens]`: its first choice. */
  readonly first: Tensor;
  /** Int32 `[tokens, T]`: its best experts, best first. */
  readonly candidates: Tensor;
  /** Float `[tokens, T]`: softmax over those alone. */
  readonly shares: Tensor;
}

/** The smallest share whose logarithm is taken. */
const TINY = 1e-12;

/** `[tokens, T]`, `[tokens, T]` → `[tokens]` */
function distance(logits: Tensor, shares: Tensor, kind: 'l1' | 'kl'): Tensor {
  if (kind === 'l1') return mean(abs(subtract(softmax(logits), shares)), -1);
  const surprise = subtract(log(maximum(shares, TINY)), logSoftmax(logits));
  return sum(multiply(shares, surprise), -1);
}

/**
 * Loss of one layer, averaged over the tokens of the mask.
 * @param logits `[tokens, numExperts]`
 * @param mask float `[tokens]`
 */
export function predictorLoss(
  logits: Tensor,
  { first, candidates, shares }: TeacherRouting,
  mask: Tensor,
  options: PredictorLossOptions,
): Tensor {
  const hard = (): Tensor => maskedMean(crossEntropy(logits, first), mask);
  if (options.kind === 'crossEntropy') return hard();
  const { crossEntropyWeight } = options;
  const soft = maskedMean(distance(gatherElements(logits, candidates), shares, options.distance), mask);
  return crossEntropyWeight === 0 ? soft : add(multiply(hard(), crossEntropyWeight), soft);
}
