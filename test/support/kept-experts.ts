/**
 * A cold tier without files: the experts of a model whose weights a test has in memory.
 * @module
 */
import { createModel, modelSchema, type Model, type ModelOptions } from '../../src/models/index.js';
import { nameParameters, ParameterArena } from '../../src/nn/index.js';
import { expertBanks, type ColdExperts, type ColdLayer, type Slot } from '../../src/serve/index.js';
import { placeParameters } from '../../src/serve/store/cold-experts.js';
import { liesTransposed } from '../../src/serve/store/expert-banks.js';

/** A model with weights from a seed. */
export interface BuiltModel {
  readonly model: Model;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

/** Builds a small model. */
export function buildModel(options: object, vocabSize = 31, seed = 5): BuiltModel {
  const model = createModel({ ...modelSchema.parse(options), vocabSize } as ModelOptions);
  const parameters = nameParameters(model);
  return { model, weights: ParameterArena.allocate(parameters).initialize(parameters, seed).views };
}

/** See the module. Reads take a turn of the event loop. */
export class KeptExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits = { description: 'kept in memory', pageCache: 'bypassed', residentBytes: 0 } as const;

  /** @param isBroken whether an expert cannot be read now */
  constructor(
    private readonly built: BuiltModel,
    transposed = true,
    private readonly isBroken: (layer: number, expert: number) => boolean = () => false,
  ) {
    const banks = expertBanks(built.model.options as ModelOptions, transposed);
    this.layers = banks.map((info) => ({ ...info, placed: placeParameters(info.parameters) }));
    this.slotBytes = Math.max(...banks.map(({ expertBytes }) => expertBytes));
  }

  async read(layer: number, expert: number, { data }: Slot): Promise<number> {
    const info = this.layers[layer];
    data.fill(NaN);
    await new Promise((resolve) => setImmediate(resolve));
    if (this.isBroken(layer, expert)) throw new Error('bad sector');
    for (const { name, offset, length } of info.placed) {
      const all = this.built.weights.get(`${info.name}.${name}`)!;
      const own = all.subarray(expert * length, (expert + 1) * length);
      const [height, width] = info.parameters[name];
      const turned = liesTransposed(info, name);
      for (let i = 0; i < length; i++)
        data[offset + i] = turned ? own[(i % width) * height + Math.floor(i / width)] : own[i];
    }
    return info.expertBytes;
  }

  async close(): Promise<void> {
    // Nothing was opened.
  }
}
