import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { saveSmallModel } from '../../../test/support/served-models.js';
import { temporaryFolder } from '../../../test/support/tiny-training.js';
import type { EngineEvent, GenerationRequest } from '../engine-client.js';
import type { MemoryPlan } from '../store/index.js';
import type { EngineSource } from './engine-source.js';
import type { Engine } from './engine.js';
import { loadServedModel } from './load-served-model.js';
import { openEngine } from './open-engine.js';

const cacheBytes = 2 ** 28;
let folder: string;
/** Bytes of weights outside of experts, and of one expert. */
let resident: number;
let expert: number;

beforeAll(async () => {
  folder = await temporaryFolder();
  for (const kind of ['languageModel', 'encoderDecoder', 'classifier'] as const)
    await saveSmallModel(join(folder, kind), kind);
  const { store, plan, close } = await loadServedModel(join(folder, 'languageModel'));
  [resident, expert] = [residentOf(plan), store!.layers[0].expertBytes];
  await close();
});
afterAll(() => rm(folder, { recursive: true }));

const residentOf = ({ placement }: MemoryPlan): number => placement[0].bytes;

const open = (kind: string, source: Partial<EngineSource> = {}, slots = 64): Promise<Engine> =>
  openEngine({ path: join(folder, kind), ...source }, { slots, cacheBytes, readTokens: 64 });

async function all(engine: Engine, request: GenerationRequest): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  for await (const event of engine.generate(request)) events.push(event);
  return events;
}

const requests = Array.from({ length: 64 }, (_, i): GenerationRequest => {
  const length = 1 + ((i * 37) % 40);
  return {
    prompt: { ids: Array.from({ length }, (_, t) => (i * 31 + t * 17) % 250) },
    ...{ maxTokens: 2 + (i % 5), seed: i, temperature: i % 2, routing: true, ignoreEnd: true },
  };
});

describe('under a budget of 7 of 24 experts', () => {
  test('64 requests together give what each gives alone with all experts in memory, with whole traces', async () => {
    const memoryBudget = cacheBytes + resident + 7 * expert;
    const [small, whole] = [await open('languageModel', { memoryBudget }), await open('languageModel')];
    expect(small.model.settings).toMatchObject({ mode: 'prefetch', policy: 'lfu', memoryBudget });
    expect(small.model.placement).toContainEqual({
      ...{ what: 'places for 7 of 24 experts', where: 'memory', bytes: 7 * expert },
    });
    const together = await Promise.all(requests.map((request) => all(small, request)));
    for (const [i, request] of requests.entries()) expect(together[i]).toEqual(await all(whole, request));
    const { store } = await small.stats();
    expect(store['bytesRead']).toBeGreaterThan(17 * expert);
    expect(store['slots']).toBe(7);
    await Promise.all([small.stop(), whole.stop()]);
  });

  test.each(['none', 'prefetch'] as const)('%s: every event is the same with every policy', async (mode) => {
    const memoryBudget = cacheBytes + resident + 3 * expert;
    const whole = await open('languageModel');
    const request = { ...requests[7], topLogProbabilities: 3, echo: true, maxTokens: 6 };
    const expected = await all(whole, request);
    await whole.stop();
    for (const policy of ['fifo', 'lru', 'lfu'] as const) {
      const engine = await open('languageModel', { memoryBudget, mode, policy });
      expect(await all(engine, request)).toEqual(expected);
      await engine.stop();
    }
  });
});

test('encoder–decoders and classifiers answer over a store as with all experts in memory', async () => {
  for (const kind of ['encoderDecoder', 'classifier'] as const) {
    const { plan, store, close } = await loadServedModel(join(folder, kind));
    const memoryBudget = cacheBytes + residentOf(plan) + 2 * store!.layers[0].expertBytes;
    await close();
    const [small, whole] = [await open(kind, { memoryBudget }), await open(kind)];
    const texts = { inputs: ['one', 'two and three'], routing: true };
    if (kind === 'classifier') expect(await small.classify(texts)).toEqual(await whole.classify(texts));
    else {
      const request = { prompt: { text: 'a source' }, maxTokens: 12, seed: 1, routing: true };
      expect(await all(small, request)).toEqual(await all(whole, request));
    }
    expect(await small.embed(texts)).toEqual(await whole.embed(texts));
    await Promise.all([small.stop(), whole.stop()]);
  }
});

test('a budget that is too small says what would do', async () => {
  await expect(open('languageModel', { memoryBudget: cacheBytes + 1000 })).rejects.toThrow('budget');
});
