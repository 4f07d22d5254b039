import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeModelFolder } from '../../../test/support/model-folders.js';
import { importCheckpoint, openCheckpoint, type Checkpoint } from '../../checkpoints/index.js';
import { modelSchema, type ModelOptions } from '../../models/index.js';
import type { ColdExperts } from './cold-experts.js';
import { expertBanks } from './expert-banks.js';
import { openExpertStore } from './open-store.js';
import { openColdExperts } from './sources/open.js';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'open-store-'));
  await writeModelFolder(join(root, 'model'), options);
  await importCheckpoint(join(root, 'model'), join(root, 'packed'), { pack: true, dtype: 'bfloat16' });
}, 120_000);
afterAll(() => rm(root, { recursive: true }));

const options = modelSchema.parse({
  ...{ kind: 'languageModel', hiddenSize: 12, numHeads: 2, intermediateSize: 20, contextLength: 8 },
  ...{ vocabSize: 11, numLayers: 4, sparse: { every: 2, numExperts: 3 } },
}) as ModelOptions;

const open = (folder: string): Promise<Checkpoint> => openCheckpoint(join(root, folder));
const cold = async (folder: string): Promise<ColdExperts> =>
  openColdExperts(await open(folder), expertBanks(options, true));

test('everything in memory where nothing else was said', async () => {
  const { store, plan } = await openExpertStore(await cold('model'), { residentBytes: 1000 });
  expect(plan).toMatchObject({ isAllInMemory: true, slots: 6 });
  expect(store.stats).toMatchObject({ resident: 6, slots: 6 });
  expect(store.announce(1, [0, 2])).toEqual([true, true]);
  await store.close();
});

test.each([1, 2, 5])('a budget for %d experts', async (slots) => {
  const tier = await cold('packed');
  const { store, plan } = await openExpertStore(tier, {
    residentBytes: 1000,
    budget: 1000 + slots * 8192 + 8191,
    policy: 'lru',
  });
  expect(plan.slots).toBe(slots);
  expect(store.maxPinned).toBe(slots);
  expect(plan.reads).toContain(tier.traits.pageCache);
  const [lease] = await store.acquire(0, [2]);
  const checkpoint = await open('packed');
  const up = 'blocks.1.feedForward.experts.up';
  expect(lease.weights['up']).toEqual(await checkpoint.readParameter(up, { at: 2, transposed: true }));
  await checkpoint.close();
  lease.release();
  await store.close();
});

test('too little, or a policy without its trace: refused, and the files are closed', async () => {
  const closed: string[] = [];
  const watched = async (name: string): Promise<ColdExperts> => {
    const tier = await cold('packed');
    const { layers, slotBytes, traits } = tier;
    return {
      ...{ layers, slotBytes, traits },
      read: () => Promise.reject(new Error('nothing is read')),
      close: () => (closed.push(name), tier.close()),
    };
  };
  await expect(
    openExpertStore(await watched('budget'), { residentBytes: 1000, budget: 9191 }),
  ).rejects.toThrow('give at least');
  await expect(
    openExpertStore(await watched('policy'), { residentBytes: 1000, policy: 'belady' }),
  ).rejects.toThrow('routing trace');
  expect(closed).toEqual(['budget', 'policy']);
});

test('static begins with its placement in memory', async () => {
  const trace = [{ layer: 1, experts: [2] }];
  const { store } = await openExpertStore(await cold('packed'), {
    residentBytes: 0,
    budget: 2 * 8192,
    policy: 'static',
    trace,
  });
  expect(store.announce(1, [2])).toEqual([true]);
  await store.close();
});
