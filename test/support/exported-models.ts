/**
 * Small models of each kind with random weights, to be exported.
 * @module
 */
import { readFileSync } from 'node:fs';
import type { ExportSource } from '../../src/checkpoints/index.js';
import { createModel, modelSchema, type ModelOptions } from '../../src/models/index.js';
import { nameParameters, ParameterArena } from '../../src/nn/index.js';

const vocabSize = 23;

/** What is exported, by name. */
export const exportedModels = JSON.parse(
  readFileSync(new URL('../golden/onnx/models.json', import.meta.url), 'utf8'),
) as Readonly<Record<string, object>>;

/** A model in memory. */
export interface MemoryModel extends ExportSource {
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** A model with random weights (seed 1), whose norms are not all ones. */
export function memoryModel(options: object, size = vocabSize): MemoryModel {
  const parsed = { ...modelSchema.parse(options), vocabSize: size } as ModelOptions;
  const parameters = nameParameters(createModel(parsed));
  const { views } = ParameterArena.allocate(parameters, 1).initialize(parameters, 1);
  for (const view of views.values())
    view.forEach((value, i) => (view[i] = value + 0.05 * Math.sin(i + view.length)));
  return {
    options: parsed,
    weights: views,
    readParameter: async (name, { at } = {}) => {
      const view = views.get(name)!;
      if (at === undefined) return view;
      const length = view.length / parameters.get(name)!.shape[0];
      return view.subarray(at * length, (at + 1) * length);
    },
  };
}
