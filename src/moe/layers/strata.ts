/**
 * Arithmetic of strata: which experts a gate sees, and how many gates a token passes.
 * @module
 */

/** Index of every stratum's first expert: `o_j = Σ_{k<j} n_k`. */
export function strataOffsets(strata: readonly number[]): number[] {
  let next = 0;
  return strata.map((size) => (next += size) - size);
}

/** Experts that each gate sees, its own stratum's and all later ones: `E_i = E − o_i`. */
export function visibleExperts(strata: readonly number[]): number[] {
  const total = strata.reduce((a, b) => a + b, 0);
  return strataOffsets(strata).map((offset) => total - offset);
}

/** Share of the tokens that pass each gate when every gate is uniform over the experts it sees. */
export function visitProbabilities(strata: readonly number[]): number[] {
  const visible = visibleExperts(strata);
  const visits: number[] = [];
  for (const gate of strata.keys()) {
    // A token arrives here from the stratum before, from whichever gate sent it there.
    const arrivals = visits.map((share, from) => (share * strata[gate - 1]) / visible[from]);
    visits.push(gate === 0 ? 1 : arrivals.reduce((a, b) => a + b, 0));
  }
  return visits;
}

/**
 * Gates that a token passes on average when every gate is uniform: `R_0` of
 * `R_i = 1 + Σ_{i≤j<L−1} (n_j / E_i) R_{j+1}`, between 1 and the number of strata. Equal strata give the harmonic
 * number of their count. What a trained layer does is measured from its records instead.
 *
 * @param strata sizes of the strata
 * @example
 * expectedRequestedCapacity([4, 12]); // 1.25
 */
export function expectedRequestedCapacity(strata: readonly number[]): number {
  return visitProbabilities(strata).reduce((a, b) => a + b, 0);
}
