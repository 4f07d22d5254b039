/**
 * Learning-rate schedules: pure functions of the update's number.
 * @module
 */

/** Settings of {@link learningRateAt}. */
export interface ScheduleOptions {
  readonly kind: 'constant' | 'cosine' | 'linear' | 'inverseSqrt';
  /** Highest learning rate, reached after the warm-up. */
  readonly learningRate: number;
  /** Updates during which the rate rises linearly from 0. */
  readonly warmupSteps: number;
  /** Lowest rate of `cosine` and `linear`, as a fraction of the highest. */
  readonly finalFraction: number;
}

/**
 * Rate of update `step` (from 0) of `totalSteps`.
 *
 * `cosine` and `linear` end at `finalFraction · learningRate` on the last step; `inverseSqrt` (T5) falls as
 * √(warmupSteps / step) and knows no end.
 */
export function learningRateAt(step: number, totalSteps: number, options: ScheduleOptions): number {
  const { kind, learningRate, warmupSteps, finalFraction } = options;
  if (step < warmupSteps) return (learningRate * (step + 1)) / (warmupSteps + 1);
  const span = Math.max(1, totalSteps - 1 - warmupSteps);
  const progress = Math.min(1, (step - warmupSteps) / span);
  const between = (weight: number): number => learningRate * (finalFraction + (1 - finalFraction) * weight);
  switch (kind) {
    case 'constant':
      return learningRate;
    case 'cosine':
      return between((1 + Math.cos(Math.PI * progress)) / 2);
    case 'linear':
      return between(1 - progress);
    case 'inverseSqrt':
      return learningRate * Math.sqrt(Math.max(1, warmupSteps) / Math.max(1, warmupSteps, step));
  }
}
