import { existsSync } from 'node:fs';
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeModelFolder } from '../../../test/support/model-folders.js';
import { openCheckpoint } from '../../checkpoints/index.js';
import { createModel, modelSchema, type ModelOptions } from '../../models/index.js';
import type { ColdExperts } from '../store/cold-experts.js';
import { expertBanks } from '../store/expert-banks.js';
import { openColdExperts } from '../store/sources/open.js';
import type { QuantisedWeights } from './expert-program.js';
import { QuantisedExperts, type QuantisedSource } from './quantised-experts.js';
import { RoundedExperts, type RoundingOptions } from './rounded-experts.js';
import { openRoundedExperts, storeRoundedExperts } from './stored-experts.js';

const options = {
  ...modelSchema.parse({
    hiddenSize: 32,
    numLayers: 2,
    numHeads: 2,
    intermediateSize: 40,
    contextLength: 16,
    activation: 'geglu',
    bias: true,
    sparse: { every: 1, numExperts: 3, topK: 1 },
  }),
  vocabSize: 11,
} as ModelOptions;

let root: string;
let model: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'switchyard-rounded-'));
  model = join(root, 'model');
  await writeModelFolder(model, options);
});
afterAll(() => rm(root, { recursive: true }));

const openFloats = async (): Promise<ColdExperts> =>
  openColdExperts(await openCheckpoint(model), expertBanks(options, true));

/** Copies of the weights of every expert. */
async function all(source: QuantisedSource): Promise<QuantisedWeights[]> {
  const found: QuantisedWeights[] = [];
  for (let layer = 0; layer < source.layers.length; layer++) {
    for (let expert = 0; expert < source.layers[layer].numExperts; expert++) {
      const bytes = await source.read(layer, expert, (weights) => {
        found.push(structuredClone(weights));
        return Promise.resolve();
      });
      expect(bytes).toBeGreaterThan(0);
    }
  }
  return found;
}

const plain = (weights: readonly QuantisedWeights[]): unknown =>
  weights.map(({ matrices, biases }) => ({
    matrices: Object.entries(matrices)
      .sort()
      .map(([name, { values, scales, zeroPoints }]) => [
        name,
        [...values],
        [...scales],
        zeroPoints && [...zeroPoints],
      ]),
    biases: Object.entries(biases)
      .sort()
      .map(([name, values]) => [name, [...values]]),
  }));

test.each([
  { bits: 4, mode: 'asymmetric' },
  { bits: 8, mode: 'symmetric' },
] as const)(
  '$bits bits, $mode: what was written is what arriving floats are rounded to',
  async (rounding: RoundingOptions) => {
    const rounded = new RoundedExperts(await openFloats(), rounding);
    const expected = await all(rounded);
    await rounded.close();
    const without = await openRoundedExperts(model, await openFloats(), rounding);
    expect(without.traits.description).toContain('rounded');
    await without.close();

    const seen: number[] = [];
    await storeRoundedExperts(model, rounding, (done) => seen.push(done));
    expect(seen).toEqual([1, 2, 3, 4, 5, 6]);
    const stored = await openRoundedExperts(model, await openFloats(), rounding);
    expect(stored.traits.description).toBe(`packed folder, ${rounding.bits} bits`);
    expect(plain(await all(stored))).toEqual(plain(expected));
    await stored.close();
    await expect(storeRoundedExperts(model, rounding)).rejects.toThrow(/experts-int/);
  },
);

test('rounded experts of another model and files that were cut short are refused', async () => {
  const floats = await openFloats();
  const other = {
    ...floats,
    layers: floats.layers.map((layer) => ({ ...layer, numExperts: 4 })),
    close: () => floats.close(),
  };
  await expect(
    openRoundedExperts(model, other as ColdExperts, { bits: 4, mode: 'symmetric' }),
  ).rejects.toThrow(/experts\.3\.\w+.* is not there; the experts are of another model/);
  const stored = await openRoundedExperts(model, await openFloats(), { bits: 4, mode: 'symmetric' });
  const file = join(model, 'experts-int4', 'model-00002-of-00002.safetensors');
  await truncate(existsSync(file) ? file : join(model, 'experts-int4', 'model.safetensors'), 5000);
  const experts = new QuantisedExperts(stored, createModel(options));
  await expect(all(stored)).rejects.toThrow(/changed|cut short/);
  await experts.close();
});
