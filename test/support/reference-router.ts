/**
 * Pieces of routers in plain loops.
 * @module
 */
import { dot, logSumExp, matrix, type Matrix, type ReferenceInputs } from './reference-moe.js';

/** `hidden Wᵀ` for a weight that is named as in the router. */
export function logitsOf({ hidden, parameters }: ReferenceInputs, name = 'classifier.weight'): number[][] {
  const weight = matrix(parameters.get(name)!, hidden[0].length);
  return hidden.map((row) => weight.map((weights) => dot(row, weights)));
}

/** `1 / (1 + e⁻ˣ)` */
export const logistic = (x: number): number => 1 / (1 + Math.exp(-x));

/** Exponentials as shares of 1. */
export function softmaxOf(row: readonly number[]): number[] {
  const total = logSumExp(row);
  return row.map((value) => Math.exp(value - total));
}

/** Indices of the k largest of each row, best first, equal ones by index. */
export function largestOf(scores: Matrix, k: number): number[][] {
  return scores.map((row) =>
    row
      .map((_, i) => i)
      .sort((a, b) => row[b] - row[a] || a - b)
      .slice(0, k),
  );
}

/** Values at the indices of each row. */
export function picked(values: Matrix, indices: Matrix): number[][] {
  return indices.map((row, t) => row.map((i) => values[t][i]));
}

/** Each row divided by its sum. */
export function normalized(rows: Matrix, epsilon = 0): number[][] {
  return rows.map((row) => {
    const total = row.reduce((a, b) => a + b, 0) + epsilon;
    return row.map((value) => value / total);
  });
}

/** Rows of real tokens. */
export function realOnly(rows: Matrix, mask: readonly number[] | undefined): Matrix {
  return rows.filter((_, t) => mask?.[t] !== 0);
}

/** `Σ_e p_e ln p_e` of the mean softmax over real tokens; 0 when there are none. */
export function entropyOf(logits: Matrix, mask: readonly number[] | undefined): number {
  const real = realOnly(logits, mask).map(softmaxOf);
  if (real.length === 0) return 0;
  return real[0].reduce((total, _, expert) => {
    const share = real.reduce((sum, row) => sum + row[expert], 0) / real.length;
    return total + share * Math.log(share);
  }, 0);
}

/** Choices per expert over real tokens. */
export function loadOf(experts: Matrix, numExperts: number, mask: readonly number[] | undefined): number[] {
  const load = new Array<number>(numExperts).fill(0);
  for (const expert of realOnly(experts, mask).flat()) load[expert]++;
  return load;
}

/** Population variance over squared mean. */
export function squaredVariationOf(values: readonly number[]): number {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const variance = values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length;
  return variance / (mean ** 2 + 1e-10);
}

/** Parameters whose every row (or element of a vector) `i` is row `order[i]` of the given ones. */
export function permuteRows(
  parameters: ReadonlyMap<string, Float64Array>,
  order: readonly number[],
): Map<string, Float64Array> {
  return new Map(
    [...parameters].map(([name, data]) => {
      const rows = matrix(data, data.length / order.length);
      return [name, Float64Array.from(order.flatMap((row) => rows[row]))];
    }),
  );
}
