/**
 * What the chosen experts of many tokens add up to.
 * @module
 */

/** Standard deviation over experts of their share of all choices, in percentage points (adaptive clustering §12). */
export function loadDeviation(load: ArrayLike<number>): number {
  const counts = Array.from(load);
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0) return 0;
  const mean = 100 / counts.length;
  const variance =
    counts.reduce((sum, count) => sum + ((100 * count) / total - mean) ** 2, 0) / counts.length;
  return Math.sqrt(variance);
}

/**
 * Selection mass: each expert's sum of gate weights over its share of all, `[numExperts]` (σ-MoE §10).
 * @param experts `[tokens, topK]`, −1 for no choice
 * @param gates `[tokens, topK]`
 */
export function selectionMass(
  experts: ArrayLike<number>,
  gates: ArrayLike<number>,
  numExperts: number,
): number[] {
  const sums = new Array<number>(numExperts).fill(0);
  for (let i = 0; i < experts.length; i++) if (experts[i] >= 0) sums[experts[i]] += gates[i];
  const total = sums.reduce((a, b) => a + b, 0);
  return sums.map((sum) => (total === 0 ? 0 : sum / total));
}

/**
 * Co-occurrence `[numExperts][numExperts]`: for each token one for every ordered pair of different chosen experts,
 * then each row over its sum (σ-MoE §10). Rows of experts that were never chosen with another are zeros.
 * @param experts `[tokens, topK]`, −1 for no choice
 */
export function coOccurrence(experts: ArrayLike<number>, topK: number, numExperts: number): number[][] {
  const counts = Array.from({ length: numExperts }, () => new Array<number>(numExperts).fill(0));
  for (let start = 0; start < experts.length; start += topK) {
    for (let i = start; i < start + topK; i++) {
      for (let j = start; j < start + topK; j++) {
        if (experts[i] >= 0 && experts[j] >= 0 && experts[i] !== experts[j]) counts[experts[i]][experts[j]]++;
      }
    }
  }
  return counts.map((row) => {
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((count) => (total === 0 ? 0 : count / total));
  });
}
