/**
 * What experts have in common: one matrix in the middle, and the order in which each expert's neurons meet its rows.
 * @module
 */
import type { LayerExperts, MethodStep } from './method.js';

/** A centre, and each expert's neurons put in its order. */
export interface Alignment {
  /** `[intermediateSize, width]` */
  readonly centre: Float32Array;
  /** Per expert: row i of the centre meets row `permutations[expert][i]` of the expert. Each is a bijection. */
  readonly permutations: readonly Int32Array[];
  /** (1/N) Σ ‖T D − centre‖² after each iteration; never rises. */
  readonly objective: readonly number[];
  /** ‖D‖² of each expert. */
  readonly energies: readonly number[];
  /** ‖T D − centre‖² of each expert, with the final centre. */
  readonly residuals: readonly number[];
}

/** One way to find a centre. */
export interface CentreFinder {
  find(layer: LayerExperts, onProgress?: (step: MethodStep) => void): Promise<Alignment>;
}
