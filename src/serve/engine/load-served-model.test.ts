import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeModelFolder } from '../../../test/support/model-folders.js';
import { Generator, type GenerationOptions } from '../../decode/index.js';
import { modelSchema, type LanguageModel, type ModelOptions } from '../../models/index.js';
import { loadModel } from '../../train/index.js';
import { MemoryBudgetError } from '../store/memory-plan.js';
import type { RoutingDecision } from './hooks.js';
import { loadServedModel, type LoadServedModelOptions } from './load-served-model.js';

const [hiddenSize, intermediateSize, numExperts] = [16, 24, 6];
const sizes = {
  hiddenSize,
  numLayers: 2,
  numHeads: 2,
  intermediateSize,
  contextLength: 32,
  positions: 'rotary',
};
const options = { maxTokens: 8, temperature: 0, topK: 0, topP: 1, seed: 1 } satisfies GenerationOptions;
const prompts = [[3, 1, 4], [15]];
const optionsOf = (sparse?: object): ModelOptions =>
  ({ ...modelSchema.parse({ ...sizes, ...(sparse && { sparse }) }), vocabSize: 31 }) as ModelOptions;

let root: string;
let folder: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'served-'));
  folder = join(root, 'model');
  await writeModelFolder(folder, optionsOf({ every: 1, numExperts, topK: 2 }));
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function write(path: string, settings: LoadServedModelOptions = {}): Promise<unknown> {
  const served = await loadServedModel(path, settings);
  const generator = await Generator.create(served.model as LanguageModel, served.passes);
  const texts = (await generator.complete(prompts, options)).map(({ ids }) => ids);
  await served.close();
  return texts;
}

async function expected(path: string): Promise<unknown> {
  const { model, weights } = await loadModel(path);
  const generator = await Generator.create(model as LanguageModel, weights);
  const texts = (await generator.complete(prompts, options)).map(({ ids }) => ids);
  await generator.release();
  return texts;
}

test('a folder writes the same text with all of its experts in memory, with few, and with one', async () => {
  const all = await loadServedModel(folder);
  const { plan, store } = all;
  const expertBytes = store!.layers[0].expertBytes;
  expect(expertBytes).toBe(4 * 2 * hiddenSize * intermediateSize);
  expect([store!.maxPinned, plan.isAllInMemory]).toEqual([2 * numExperts, true]);
  await all.close();
  const texts = await expected(folder);
  expect(await write(folder)).toEqual(texts);
  const one = plan.least;
  for (const memoryBudget of [one, one + 4 * expertBytes]) {
    expect(await write(folder, { memoryBudget })).toEqual(texts);
  }
});

test('recorded routing says which experts are popular', async () => {
  const file = join(root, 'trace.jsonl');
  const layers = [0, 1].map((layer) => ({ name: String(layer), numExperts, topK: 2 }));
  await writeFile(
    file,
    `${JSON.stringify({
      layers,
      experts: [
        [
          [5, 2],
          [-1, -1],
        ],
      ],
    })}\n`,
  );
  const { plan, store, close } = await loadServedModel(folder);
  const memoryBudget = plan.least + store!.layers[0].expertBytes;
  await close();
  const settings: LoadServedModelOptions = { memoryBudget, policy: 'static', routingTrace: file };
  const served = await loadServedModel(folder, settings);
  expect(served.store!.announce(0, [2, 3, 5])).toEqual([true, false, true]);
  await served.close();
  expect(await write(folder, settings)).toEqual(await expected(folder));
  await expect(loadServedModel(folder, { ...settings, routingTrace: undefined })).rejects.toThrow(
    'policy static needs a routing trace',
  );
});

test('hooks are made for the store that was opened', async () => {
  const layers: number[] = [];
  await write(folder, {
    hooks: ({ store, weights }) => {
      expect(store.layers).toHaveLength(2);
      expect([...weights.keys()].some((name) => name.includes('.experts.'))).toBe(false);
      return { observer: { observe: ({ layer }: RoutingDecision) => void layers.push(layer) } };
    },
  });
  expect(layers.slice(0, 4)).toEqual([0, 1, 0, 1]);
});

test('experts of 8 bits write as well', async () => {
  const served = await loadServedModel(folder, { expertBits: 8 });
  const generator = await Generator.create(served.model as LanguageModel, served.passes);
  const [{ ids }] = await generator.complete(prompts, options);
  expect(ids).toHaveLength(options.maxTokens);
  await served.close();
});

test('a dense model has no store', async () => {
  const dense = join(root, 'dense');
  await writeModelFolder(dense, optionsOf());
  expect((await loadServedModel(dense)).store).toBeUndefined();
  expect(await write(dense)).toEqual(await expected(dense));
});

test('budgets below the least, and runs without a finished model, are refused with what would help', async () => {
  for (const path of [folder, join(root, 'dense')])
    await expect(loadServedModel(path, { memoryBudget: 1000 })).rejects.toThrow(MemoryBudgetError);
  const run = join(root, 'run');
  await mkdir(run);
  await writeFile(join(run, 'recipe.json'), '{}');
  await expect(loadServedModel(run)).rejects.toThrow('the run has no finished model yet');
});
