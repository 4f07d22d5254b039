import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeModelFolder } from '../../../test/support/model-folders.js';
import { importCheckpoint, openCheckpoint, type Checkpoint } from '../../checkpoints/index.js';
import { modelSchema, type ModelOptions } from '../../models/index.js';
import { openExpertStore } from './open-store.js';

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

test('everything in memory where nothing else was said', async () => {
  const { store, plan } = await openExpertStore(await open('model'), { residentBytes: 1000 });
  expect(plan).toMatchObject({ isAllInMemory: true, slots: 6 });
  expect(store.stats).toMatchObject({ resident: 6, slots: 6 });
  expect(store.announce(1, [0, 2])).toEqual([true, true]);
  await store.close();
});

test.each([1, 2, 5])('a budget for %d experts', async (slots) => {
  const checkpoint = await open('packed');
  const { store, plan, cold } = await openExpertStore(checkpoint, {
    residentBytes: 1000,
    budget: 1000 + slots * 8192 + 8191,
    policy: 'lru',
  });
  expect(plan.slots).toBe(slots);
  expect(store.maxPinned).toBe(slots);
  expect(plan.reads).toContain(cold.pageCache);
  const [lease] = await store.acquire(0, [2]);
  expect(lease.weights['up']).toEqual(
    await (
      await open('packed')
    ).readParameter('blocks.1.feedForward.experts.up', { at: 2, transposed: true }),
  );
  lease.release();
  await store.close();
});

test('too little, or a policy without its trace: refused, and the files are closed', async () => {
  const closed: string[] = [];
  const watched = async (name: string): Promise<Checkpoint> => {
    const checkpoint = await open('packed');
    return { ...checkpoint, close: () => (closed.push(name), checkpoint.close()) };
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
  const { store } = await openExpertStore(await open('packed'), {
    residentBytes: 0,
    budget: 2 * 8192,
    policy: 'static',
    trace,
  });
  expect(store.announce(1, [2])).toEqual([true]);
  await store.close();
});
