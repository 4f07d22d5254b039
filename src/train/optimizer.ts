/**
 * The extension point of optimisers: state in flat arrays beside the parameters, updates in place.
 * @module
 */
import type { ParameterArena } from '../nn/index.js';

/** Scalars of one update. */
export interface UpdateSettings {
  /** Number of this update, from 1. */
  readonly update: number;
  readonly learningRate: number;
  /** Factor on all gradients: clipping and the mean over accumulated batches. */
  readonly gradientScale: number;
}

/** An optimiser over one arena. */
export interface Optimizer {
  /** State arrays by name, each with the layout of the parameters; a checkpoint stores exactly these. */
  readonly state: ReadonlyMap<string, ParameterArena>;
  /** Changes the parameters in place. */
  update(settings: UpdateSettings): Promise<void>;
  /** Frees what {@link Optimizer} holds outside the JavaScript heap. */
  release(): Promise<void>;
}

/** Makes an optimiser for parameters and the gradients that steps write. */
export type OptimizerFactory<Options> = (
  parameters: ParameterArena,
  gradients: ParameterArena,
  options: Options,
  threads: number | undefined,
) => Optimizer;
