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
