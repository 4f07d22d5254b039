/**
 * SparseMax: the Euclidean projection onto the simplex (Martins and Astudillo 2016), which gives exact zeros.
 * @module
 */
import {
  add,
  cast,
  cumulativeSum,
  customGradient,
  divide,
  greater,
  maximum,
  multiply,
  range,
  relu,
  stopGradient,
  subtract,
  sum,
  topK,
  type Tensor,
} from '../../graph/index.js';

/** Forms of {@link sparsemax}. */
export type SparsemaxForm = 'paper' | 'released';

/**
 * Projects the last axis onto the simplex: with z sorted downwards, ρ = max{j : 1 + j z₍ⱼ₎ > Σ_{i≤j} z₍ᵢ₎},
 * τ = (Σ_{i≤ρ} z₍ᵢ₎ − 1)/ρ, the result is max(0, z − τ).
 *
 * `released` is what SiDA's code computes: the same ρ, but τ′ = (Σ_{i≤ρ} z₍ᵢ₎ − 2)/ρ, and then each row divided by its
 * sum: a denser and flatter result. Rows in which every score is −1e9 or less become zeros.
 *
 * @param scores float `[..., n]` with a static n
 */
export function sparsemax(scores: Tensor, form: SparsemaxForm = 'paper'): Tensor {
  const z = stopGradient(scores);
  const size = z.shape.at(-1) as number;
  const sorted = topK(z, size).values;
  const rank = cast(add(range(size), 1), z.dtype);
  const supported = cast(greater(add(multiply(sorted, rank), 1), cumulativeSum(sorted, -1)), z.dtype);
  // No score is in the support where all are masked.
  const support = maximum(sum(supported, -1, true), 1);
  const total = sum(multiply(sorted, supported), -1, true);
  const threshold = (mass: number): Tensor => divide(subtract(total, mass), support);
  const paper = relu(subtract(z, threshold(1)));
  const inSupport = cast(greater(paper, 0), z.dtype);
  if (form === 'paper') {
    return customGradient(paper, [scores], (gradient) => {
      const average = divide(sum(multiply(gradient, inSupport), -1, true), support);
      return [multiply(inSupport, subtract(gradient, average))];
    });
  }
  const raised = relu(subtract(z, threshold(2)));
  const mass = maximum(sum(raised, -1, true), 1e-12);
  const normalised = divide(raised, mass);
  const active = cast(greater(raised, 0), z.dtype);
  return customGradient(normalised, [scores], (gradient) => {
    const along = sum(multiply(gradient, normalised), -1, true);
    const onRaised = multiply(active, divide(subtract(gradient, along), mass));
    const onThreshold = divide(sum(onRaised, -1, true), support);
    return [subtract(onRaised, multiply(inSupport, onThreshold))];
  });
}
