/**
 * How evenly a sparse layer uses its experts, from the counts of one step or of many.
 * @module
 */
import { entropy } from './decisiveness.js';

/** Measures of one layer's load, over the experts that it can choose. */
export interface LoadStatistics {
  /** Choices counted. */
  readonly total: number;
  /** Load of each expert over the mean: 1 is a fair share, 0 a dead expert. */
  readonly utilization: readonly number[];
  /** Largest utilization. */
  readonly maxOverMean: number;
  /** Smallest utilization. */
  readonly minOverMean: number;
  /** Entropy of the load over its maximum, log numExperts: 1 is perfectly even, 0 is one expert alone. */
  readonly balance: number;
  /** Standard deviation over mean. */
  readonly coefficientOfVariation: number;
  /** Experts without a single token, by their numbers in the layer. */
  readonly dead: readonly number[];
}

/**
 * Statistics of a load `[numExperts]`. An empty count is reported as perfectly even: nothing was routed badly.
 * @param firstExpert first expert that can be chosen: those before it belong to earlier strata and are left out
 */
export function loadStatistics(load: ArrayLike<number>, firstExpert = 0): LoadStatistics {
  const counts = Array.from(load).slice(firstExpert);
  const total = counts.reduce((a, b) => a + b, 0);
  const mean = total / counts.length;
  const utilization = counts.map((count) => (total === 0 ? 1 : count / mean));
  const variance = utilization.reduce((sum, value) => sum + (value - 1) ** 2, 0) / counts.length;
  return {
    total,
    utilization,
    maxOverMean: Math.max(...utilization),
    minOverMean: Math.min(...utilization),
    balance: total === 0 || counts.length === 1 ? 1 : entropy(counts) / Math.log(counts.length),
    coefficientOfVariation: Math.sqrt(variance),
    dead: total === 0 ? [] : counts.flatMap((count, i) => (count === 0 ? [firstExpert + i] : [])),
  };
}
