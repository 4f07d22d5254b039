/**
 * How much routing still changes while a model trains, seen on the same tokens through its saved checkpoints.
 * @module
 */
import { join } from 'node:path';
import type { BatchShape } from '../data/index.js';
import { changedShare } from '../metrics/index.js';
import type { LanguageModel } from '../models/index.js';
import { nameParameters } from '../nn/index.js';
import type { RuntimeOptions } from '../runtime/index.js';
import { CheckpointStore, namedTensors } from '../train/index.js';
import { firstChoices, RoutingTracer, type TracedBatches } from './routing-trace.js';

/** Change between consecutive checkpoints. */
export interface CheckpointStability {
  /** Steps of the checkpoints, ascending. */
  readonly steps: readonly number[];
  /** Tokens that were routed at each. */
  readonly tokens: number;
  readonly layers: readonly {
    readonly layer: string;
    /** Share of tokens whose first choice is not that of the checkpoint before: one fewer than steps. */
    readonly changed: readonly number[];
  }[];
}

/**
 * Routes the same tokens at every checkpoint of a run.
 *
 * @param validation gives the batches anew at each call
 * @returns undefined where fewer than two checkpoints are left, or the model does not route.
 * @throws CheckpointError for one that is damaged.
 */
export async function checkpointStability(
  run: string,
  model: LanguageModel,
  validation: () => TracedBatches,
  shape: BatchShape,
  maxTokens: number,
  runtime: RuntimeOptions = {},
): Promise<CheckpointStability | undefined> {
  const store = new CheckpointStore(join(run, 'checkpoints'));
  const steps = (await store.list()).map(({ step }) => step);
  if (steps.length < 2) return undefined;
  const parameters = nameParameters(model);
  const weights = new Map([...parameters].map(([name, { size }]) => [name, new Float32Array(size)]));
  const shapes = new Map([...parameters].map(([name, parameter]) => [name, parameter.shape]));
  const tracer = await RoutingTracer.create(model, weights, shape, runtime);
  try {
    if (tracer.layers.length === 0) return undefined;
    let before: Int32Array[] | undefined;
    const changed = tracer.layers.map((): number[] => []);
    let tokens = 0;
    for (const step of steps) {
      await store.load(step, { model: namedTensors(shapes, weights) });
      const trace = await tracer.trace(validation(), maxTokens);
      const labels = trace.layers.map(firstChoices);
      const previous = before;
      if (previous) changed.forEach((shares, i) => shares.push(changedShare(previous[i], labels[i])));
      before = labels;
      tokens = trace.tokens.length;
    }
    const layers = tracer.layers.map(({ name }, i) => ({ layer: name, changed: changed[i] }));
    return { steps, tokens, layers };
  } finally {
    await tracer.release();
  }
}
