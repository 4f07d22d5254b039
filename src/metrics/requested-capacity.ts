/**
 * Requested capacity: through how many strata a token passes (stratified mixture of experts §6).
 * @module
 */

/**
 * Requested capacity of each token in one layer: the number of strata that chose an expert for it, `[tokens]`.
 * @param strata chosen experts of each stratum, `[tokens, topK]` each, −1 for no choice
 */
export function requestedCapacity(
  strata: readonly { readonly experts: ArrayLike<number>; readonly topK: number }[],
): number[] {
  const tokens = strata.length === 0 ? 0 : strata[0].experts.length / strata[0].topK;
  return Array.from({ length: tokens }, (_, token) =>
    strata.reduce((count, { experts, topK }) => {
      for (let k = 0; k < topK; k++) if (experts[token * topK + k] >= 0) return count + 1;
      return count;
    }, 0),
  );
}

/**
 * Expected requested capacity when every gate is uniform over the experts it sees:
 * `R_i = 1 + Σ_{j=i}^{L−2} (n_j / Σ_{k≥i} n_k) R_{j+1}`, `R_0`.
 * @param sizes experts of each stratum
 * @example
 * uniformRequestedCapacity([4, 12]); // 1.25
 */
export function uniformRequestedCapacity(sizes: readonly number[]): number {
  const last = sizes.length - 1;
  const expected = new Array<number>(sizes.length).fill(1);
  for (let i = last - 1; i >= 0; i--) {
    const visible = sizes.slice(i).reduce((a, b) => a + b, 0);
    for (let j = i; j < last; j++) expected[i] += (sizes[j] / visible) * expected[j + 1];
  }
  return expected[0] ?? 0;
}
