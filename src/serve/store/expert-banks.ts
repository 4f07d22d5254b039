/**
 * Which parameters of a model belong to single experts.
 * @module
 */
import { createModel, type ModelOptions } from '../../models/index.js';
import type { ExpertLayerInfo } from './expert-store.js';

/** Matrices of an ordinary expert, which may lie either way round. */
const matrices = new Set(['gate', 'up', 'down']);

/** Whether a parameter of a layer lies `[out, in]` in memory where the model has `[in, out]`. */
export function liesTransposed(
  { transposed }: Pick<ExpertLayerInfo, 'transposed'>,
  parameter: string,
): boolean {
  return transposed && matrices.has(parameter);
}

/** Parameters of a bank that all of its experts have in common. */
const common = /^centre/;

/**
 * The layers of experts of a model in the order in which a pass meets them, the encoder's first; none in a dense model, or
 * one whose sparse layers have no experts of their own.
 *
 * @param transposed whether the matrices of ordinary experts are to lie `[out, in]`.
 */
export function expertBanks(options: ModelOptions, transposed: boolean): readonly ExpertLayerInfo[] {
  const banks = new Map<string, Map<string, readonly number[]>>();
  const counts = new Map<string, number>();
  for (const [parameter, { shape }] of createModel(options).parameters()) {
    const [, bank, name] = /^(.*\.feedForward\.experts)\.(\w+)$/.exec(parameter) ?? [];
    if (bank === undefined || common.test(name)) continue;
    const own = banks.get(bank) ?? new Map<string, readonly number[]>();
    banks.set(bank, own.set(name, shape.slice(1)));
    counts.set(bank, shape[0]);
  }
  return [...banks].map(([name, own]) => {
    const isTurned = transposed && own.has('up');
    const parameters = [...own].map(
      ([key, shape]) => [key, isTurned && matrices.has(key) ? shape.toReversed() : shape] as const,
    );
    const floats = parameters.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
    return {
      name,
      numExperts: counts.get(name)!,
      parameters: Object.fromEntries(parameters),
      transposed: isTurned,
      expertBytes: 4 * floats,
    };
  });
}
