/**
 * What objectives have in common.
 * @module
 */
import { add, cast, greaterEqual, input, maximum, multiply, type Tensor } from '../../graph/index.js';
import { totalAuxiliaryLoss, type ModelReport } from '../../models/index.js';
import { crossEntropy, maskedMean } from '../../nn/index.js';
import type { TracedObjective } from '../objective.js';

/** A fed mask: 1 for tokens, 0 for padding. */
export function maskInput(name: string, size: readonly number[], dtype: 'float32' | 'float64'): Tensor {
  return cast(input(name, 'bool', size), dtype);
}

/**
 * Task loss and auxiliary losses together.
 * @param logits `[targets, classes]`
 * @param targets int32 `[targets]`, negative where nothing is predicted
 */
export function joinLosses(
  logits: Tensor,
  targets: Tensor,
  losses: ModelReport['losses'],
): Pick<TracedObjective, 'loss' | 'taskLoss' | 'tokenLoss' | 'logits' | 'counted'> {
  const counted = cast(greaterEqual(targets, 0), logits.dtype);
  const perToken = crossEntropy(logits, maximum(targets, 0));
  const taskLoss = maskedMean(perToken, counted);
  const auxiliary = totalAuxiliaryLoss(losses);
  return {
    loss: auxiliary ? add(taskLoss, auxiliary) : taskLoss,
    taskLoss,
    tokenLoss: multiply(perToken, counted),
    logits,
    counted,
  };
}
