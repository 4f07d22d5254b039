/**
 * Expert choice in plain loops.
 * @module
 */
import type { Matrix } from './reference-moe.js';

/** Numbers of the choice. */
export interface ChoiceSettings {
  readonly topK: number;
  readonly capacityFactor: number;
  readonly groups: number;
  readonly mask?: readonly number[] | undefined;
}

/**
 * Every expert takes the `C = max(1, min(T, ⌊T · topK / numExperts · capacityFactor⌋))` most probable of the T real
 * tokens of a group, the first among equals.
 * @returns as tokens see it, `[tokens][numExperts]`: experts by probability and −1 behind them, with their gates.
 */
export function referenceExpertChoice(
  probabilities: Matrix,
  { topK, capacityFactor, groups, mask = probabilities.map(() => 1) }: ChoiceSettings,
): { experts: number[][]; gates: number[][] } {
  const numExperts = probabilities[0].length;
  const perGroup = probabilities.length / groups;
  const chosen = probabilities.map((): number[] => []);
  for (let group = 0; group < groups; group++) {
    const real = probabilities
      .map((_, t) => t)
      .filter((t) => Math.floor(t / perGroup) === group && mask[t] === 1);
    const share = Math.floor((real.length * topK * capacityFactor) / numExperts);
    const capacity = Math.max(1, Math.min(real.length, share));
    for (let expert = 0; expert < numExperts; expert++) {
      const best = [...real].sort((a, b) => probabilities[b][expert] - probabilities[a][expert] || a - b);
      for (const t of best.slice(0, capacity)) chosen[t].push(expert);
    }
  }
  const filled = (row: readonly number[], value: number): number[] => [
    ...row,
    ...new Array<number>(numExperts - row.length).fill(value),
  ];
  const ordered = chosen.map((row, t) =>
    [...row].sort((a, b) => probabilities[t][b] - probabilities[t][a] || a - b),
  );
  return {
    experts: ordered.map((row) => filled(row, -1)),
    gates: ordered.map((row, t) =>
      filled(
        row.map((expert) => probabilities[t][expert]),
        0,
      ),
    ),
  };
}
