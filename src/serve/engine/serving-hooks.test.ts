import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { saveSmallModel } from '../../../test/support/served-models.js';
import { temporaryFolder } from '../../../test/support/tiny-training.js';
import { savePredictorFor } from '../../../test/support/small-predictor.js';
import type { EngineEvent } from '../engine-client.js';
import type { Engine } from './engine.js';
import { loadServedModel } from './load-served-model.js';
import { openEngine } from './open-engine.js';

const cacheBytes = 2 ** 28;
let folder: string;
const path = (name: string): string => join(folder, name);

beforeAll(async () => {
  folder = await temporaryFolder();
  await saveSmallModel(path('model'), 'languageModel');
  await savePredictorFor(path('model'), path('causal'), { causal: true });
  await savePredictorFor(path('model'), path('whole'), { causal: false });
});
afterAll(() => rm(folder, { recursive: true }));

async function generate(engine: Engine): Promise<EngineEvent[]> {
  const events: EngineEvent[] = [];
  const request = { prompt: { ids: [5, 9, 2, 6] }, maxTokens: 8, seed: 3, routing: true, ignoreEnd: true };
  for await (const event of engine.generate(request)) events.push(event);
  await engine.stop();
  return events;
}

test('a causal predictor reads ahead for a language model and changes no bit of its text', async () => {
  const { store, plan, close } = await loadServedModel(path('model'));
  const memoryBudget = cacheBytes + plan.placement[0].bytes + 7 * store!.layers[0].expertBytes;
  await close();
  const limits = { slots: 4, cacheBytes, readTokens: 16 };
  const alone = await generate(await openEngine({ path: path('model') }, limits));
  const source = { path: path('model'), memoryBudget, mode: 'prefetch', predictor: path('causal') } as const;
  const ahead = await openEngine(source, limits);
  expect(await generate(ahead)).toEqual(alone);
});

test('a predictor that looks ahead, or is to decide, is refused for text that is being written', async () => {
  const limits = { slots: 4, cacheBytes, readTokens: 16 };
  const open = (mode: 'prefetch' | 'sida', predictor: string): Promise<Engine> =>
    openEngine({ path: path('model'), mode, predictor: path(predictor) }, limits);
  await expect(open('prefetch', 'whole')).rejects.toThrow('it looks at later tokens');
  await expect(open('sida', 'causal')).rejects.toThrow('mode sida routes texts that are read whole');
});
