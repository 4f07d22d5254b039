/**
 * How much the experts of a layer have in common: the report to read before cutting.
 * @module
 */

/** Energies (sums of squares) of a layer's experts and of what is left of them beside the centre. */
export interface Redundancy {
  /** ‖D‖² of each expert. */
  readonly energies: readonly number[];
  /** ‖T D − centre‖² of each. */
  readonly residuals: readonly number[];
  /**
   * ρ = Σ residuals / Σ energies: 0 when all experts are the same up to the order of their neurons. The mean of N
   * experts that have nothing in common leaves 1 − 1/N.
   */
  readonly ratio: number;
}

/** The report over all experts of a layer; ρ of nothing but zeros is 0. */
export function redundancyOf(energies: readonly number[], residuals: readonly number[]): Redundancy {
  const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);
  const energy = sum(energies);
  return { energies, residuals, ratio: energy === 0 ? 0 : sum(residuals) / energy };
}
