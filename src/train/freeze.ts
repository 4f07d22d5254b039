/**
 * Which parameters train, and where the others live.
 * @module
 */
import { ParameterArena, startParameter, type Parameter } from '../nn/index.js';

/** Whether a name fits a pattern in which `*` stands for anything. */
export function matchesPattern(name: string, pattern: string): boolean {
  const escaped = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`).test(name);
}

/** All weights of a model: trainable ones in one arena, frozen ones beside it. */
export interface Weights {
  readonly trainable: ParameterArena;
  /** Those without a gradient. */
  readonly frozen: ReadonlyMap<string, Float32Array>;
  /** Names of those of {@link frozen} that still change, by rules of their own. */
  readonly states: ReadonlySet<string>;
  /** Every weight by name, in the order of the model. */
  readonly all: ReadonlyMap<string, Float32Array>;
}

/**
 * Allocates and initialises a model's weights.
 *
 * @param freeze patterns of the parameters that keep their values.
 * @param arenas flat arrays of the trainable parameters' size that will be needed, for one block of memory.
 * @throws Error if a pattern fits no parameter, all parameters are frozen, or the arrays do not fit into memory.
 */
export function createWeights(
  parameters: ReadonlyMap<string, Parameter>,
  freeze: readonly string[],
  seed: number,
  arenas = 4,
): Weights {
  const names = [...parameters.keys()];
  for (const pattern of freeze) {
    if (!names.some((name) => matchesPattern(name, pattern))) {
      const examples = names.slice(0, 3).join(', ');
      throw new Error(`train.freeze: '${pattern}' fits no parameter; parameters are named like ${examples}`);
    }
  }
  const isFrozen = (name: string): boolean => freeze.some((pattern) => matchesPattern(name, pattern));
  const select = (frozen: boolean): Map<string, Parameter> =>
    new Map([...parameters].filter(([name, { trainable }]) => (isFrozen(name) || !trainable) === frozen));
  const kept = select(false);
  if (kept.size === 0) throw new Error('train.freeze: every parameter is frozen, so nothing would train');
  const trainable = allocate(kept, arenas).initialize(kept, seed);
  const frozen = new Map<string, Float32Array>();
  for (const [name, parameter] of select(true)) {
    const values = new Float32Array(parameter.size);
    startParameter(parameter, seed, name, values);
    frozen.set(name, values);
  }
  const states = new Set(names.filter((name) => !parameters.get(name)!.trainable && !isFrozen(name)));
  const all = new Map(names.map((name) => [name, (trainable.views.get(name) ?? frozen.get(name))!]));
  return { trainable, frozen, states, all };
}

function allocate(parameters: ReadonlyMap<string, Parameter>, arenas: number): ParameterArena {
  try {
    return ParameterArena.allocate(parameters, arenas);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const count = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
    const gigabytes = ((count * 4 * arenas) / 1e9).toFixed(1);
    throw new Error(
      `the model has ${count} parameters to train: ${gigabytes} GB of weights, gradients and moments cannot be allocated; make it smaller`,
      { cause: error },
    );
  }
}
