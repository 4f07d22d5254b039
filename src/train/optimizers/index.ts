/**
 * All optimisers by the `kind` of a recipe.
 * @module
 */
import type { ParameterArena } from '../../nn/index.js';
import type { TrainOptions } from '../config.js';
import type { Optimizer } from '../optimizer.js';
import { createAdamW } from './adamw.js';
import { createSgd } from './sgd.js';

/** Makes the optimiser that a recipe asks for. */
export function createOptimizer(
  options: TrainOptions['optimizer'],
  parameters: ParameterArena,
  gradients: ParameterArena,
  threads: number | undefined,
): Optimizer {
  switch (options.kind) {
    case 'adamw':
      return createAdamW(parameters, gradients, options, threads);
    case 'sgd':
      return createSgd(parameters, gradients, options, threads);
  }
}
