import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { relatedExperts, withJob } from '../../../../test/support/compression.js';
import { temporaryFolder } from '../../../../test/support/tiny-training.js';
import { factorised, openCheckpoint, type Checkpoint } from '../../../checkpoints/index.js';
import { compressFolder } from '../../../compress/index.js';
import { coldExpertsConformance } from '../cold-experts.case.js';
import type { ColdExperts } from '../cold-experts.js';
import { expertBanks } from '../expert-banks.js';
import { SlotMemory } from '../slot-memory.js';
import { openColdExperts } from './open.js';

const model = { activation: 'swiglu' };
const withBiases = {
  sparse: { numExperts: 4, topK: 2, experts: { kind: 'feedForward', bias: true } },
};
const cases = {
  'sparse residuals': [{ residual: 'up' }, model],
  'sparse residuals of each block, biases': [{ residual: 'up', scope: 'sep' }, withBiases],
  'factors, rebuilt': [{ residual: 'svd' }, model],
  'factors, rebuilt, biases': [{ residual: 'svd' }, withBiases],
} as const;

let root: string;
beforeAll(async () => {
  root = await temporaryFolder();
  for (const [name, [options, change]] of Object.entries(cases)) {
    await relatedExperts(join(root, `${name}, whole`), change);
    await withJob(join(root, `${name}, whole`), join(root, name), (job) => compressFolder(job), { options });
  }
}, 120_000);
afterAll(() => rm(root, { recursive: true }));

async function expected(
  checkpoint: Checkpoint,
  transposed: boolean,
  layer: number,
  expert: number,
): Promise<Record<string, Float32Array>> {
  const { name, parameters } = expertBanks(checkpoint.options, transposed)[layer];
  const weights: Record<string, Float32Array> = {};
  for (const parameter of Object.keys(parameters))
    weights[parameter] = await checkpoint.readParameter(`${name}.${parameter}`, {
      at: expert,
      transposed: transposed && /^(gate|up|down)$/.test(parameter),
    });
  await checkpoint.close();
  return weights;
}

for (const name of Object.keys(cases)) {
  for (const transposed of [true, false]) {
    coldExpertsConformance(`${name}, ${transposed ? '[out, in]' : '[in, out]'}`, {
      open: async () => {
        const checkpoint = await openCheckpoint(join(root, name));
        return openColdExperts(checkpoint, expertBanks(checkpoint.options, transposed));
      },
      expected: async (layer, expert) =>
        expected(await openCheckpoint(join(root, name)), transposed, layer, expert),
      // Factors are multiplied in single precision here, in double there.
      tolerance: name.startsWith('factors') ? 1e-5 : 0,
    });
  }
}

for (const name of ['factors, rebuilt', 'factors, rebuilt, biases'] as const) {
  const open = async (): Promise<Checkpoint> => factorised(await openCheckpoint(join(root, name)));
  coldExpertsConformance(name.replace('rebuilt', 'as they are'), {
    open: async () => {
      const checkpoint = await open();
      return openColdExperts(checkpoint, expertBanks(checkpoint.options, true));
    },
    expected: async (layer, expert) => expected(await open(), false, layer, expert),
  });
}

/** Bytes that reading every expert once moves. */
async function moved(cold: ColdExperts): Promise<number> {
  const [slot] = new SlotMemory(1, cold.slotBytes).slots;
  let bytes = 0;
  for (const [layer, { numExperts }] of cold.layers.entries())
    for (let expert = 0; expert < numExperts; expert++) bytes += await cold.read(layer, expert, slot);
  await cold.close();
  return bytes;
}

test('only residuals move; factors take less memory as well', async () => {
  const [whole, small, factors] = [
    await openCheckpoint(join(root, 'factors, rebuilt, whole')),
    await openCheckpoint(join(root, 'factors, rebuilt')),
    factorised(await openCheckpoint(join(root, 'factors, rebuilt'))),
  ];
  const tiers = [];
  for (const checkpoint of [whole, small, factors])
    tiers.push(await openColdExperts(checkpoint, expertBanks(checkpoint.options, true)));
  const [one, residual, factored] = tiers;
  expect(residual.traits.residentBytes).toBe(2 * 32 * 3 * 16 * 4);
  expect(factored.traits.residentBytes).toBe(0);
  expect(factored.slotBytes).toBeLessThan(0.3 * one.slotBytes);
  const bytes = [];
  for (const tier of tiers) bytes.push(await moved(tier));
  // A quarter of the parameters was asked for.
  expect(bytes[1] / bytes[0]).toBeLessThan(0.26);
  expect(bytes[2]).toBe(bytes[1]);
});
