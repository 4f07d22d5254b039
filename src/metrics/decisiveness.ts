/**
 * How decided a router is about each token.
 * @module
 */

/** Counts in equal parts of `[low, high]`; what lies outside goes to the nearest part. */
export interface Histogram {
  readonly low: number;
  readonly high: number;
  readonly counts: readonly number[];
}

/** Entropy and margin of distributions over experts. */
export interface Decisiveness {
  /** Mean of −Σ p ln p over tokens, in nats. */
  readonly meanEntropy: number;
  /** The same over its maximum ln numExperts; 0 where there is a single expert. */
  readonly relativeEntropy: number;
  /** Entropies over `[0, ln numExperts]`. */
  readonly entropyHistogram: Histogram;
  /** Mean of the largest minus the second largest probability. */
  readonly meanMargin: number;
  /** Margins over `[0, 1]`. */
  readonly marginHistogram: Histogram;
}

/** Shannon entropy of a distribution in nats; it may be given as counts. */
export function entropy(weights: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < weights.length; i++) total += weights[i];
  if (total === 0) return 0;
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    const p = weights[i] / total;
    if (p > 0) sum -= p * Math.log(p);
  }
  return sum;
}

/** Experts that would carry the same entropy if they were used evenly: `exp(H(load))`. 0 for an empty load. */
export function effectiveExperts(load: ArrayLike<number>): number {
  return Array.from(load).some((count) => count > 0) ? Math.exp(entropy(load)) : 0;
}

/** Counts values in `bins` equal parts of `[low, high]`. */
export function histogram(values: ArrayLike<number>, low: number, high: number, bins: number): Histogram {
  const counts = new Array<number>(bins).fill(0);
  for (let i = 0; i < values.length; i++) {
    const part = high > low ? Math.floor(((values[i] - low) / (high - low)) * bins) : 0;
    counts[Math.min(bins - 1, Math.max(0, part))]++;
  }
  return { low, high, counts };
}

/**
 * Means and histograms of entropy and margin over tokens; zeros without a token.
 * @param probabilities `[tokens, numExperts]`, each row a distribution
 * @param bins parts of each histogram
 */
export function decisiveness(probabilities: ArrayLike<number>, numExperts: number, bins = 20): Decisiveness {
  const tokens = probabilities.length / numExperts;
  const entropies = new Float64Array(tokens);
  const marginsOf = new Float64Array(tokens);
  for (let t = 0; t < tokens; t++) {
    const row = Array.from({ length: numExperts }, (_, e) => probabilities[t * numExperts + e]);
    entropies[t] = entropy(row);
    const [first, second = 0] = row.sort((a, b) => b - a);
    marginsOf[t] = first - second;
  }
  const mean = (values: Float64Array): number =>
    tokens === 0 ? 0 : values.reduce((a, b) => a + b, 0) / tokens;
  const most = Math.log(numExperts);
  return {
    meanEntropy: mean(entropies),
    relativeEntropy: most === 0 ? 0 : mean(entropies) / most,
    entropyHistogram: histogram(entropies, 0, most, bins),
    meanMargin: mean(marginsOf),
    marginHistogram: histogram(marginsOf, 0, 1, bins),
  };
}
