import { afterAll, describe, expect, test, vi } from 'vitest';
import { buildModel, type BuiltModel } from '../../../test/support/kept-experts.js';
import { SplitModels } from '../../../test/support/split-models.js';
import {
  CachedWriter,
  Generator,
  SequenceWriter,
  type GenerationOptions,
  type Passes,
} from '../../decode/index.js';
import type { EncoderDecoder, LanguageModel } from '../../models/index.js';
import type { RoutedStep } from '../store/cache-policy.js';
import { policyNames } from '../store/policies/index.js';
import type { RoutingDecision } from './hooks.js';

const models = new SplitModels();
afterAll(() => models.close());

const decoder = {
  hiddenSize: 16,
  numLayers: 4,
  numHeads: 2,
  intermediateSize: 24,
  contextLength: 32,
  positions: 'rotary',
  initialization: { scale: 4, embedding: 0.5 },
};
const layers = {
  'softmax top-2 of 6': { every: 1, numExperts: 6, topK: 2, router: { kind: 'softmax' } },
  'Switch, every second block': { every: 2, numExperts: 8, topK: 1, dispatch: { kind: 'capacity' } },
};
const prompts = [[3, 1, 4, 1, 5], [9, 2, 6], [5]];

/** Scores after prompts of different lengths, and after tokens that only some of the texts get. */
async function scoresOf({ model }: BuiltModel, passes: Passes): Promise<number[][]> {
  const texts = await new CachedWriter(model as LanguageModel, passes).begin(prompts);
  const all = texts.scores.map((scores) => [...scores]);
  for (let step = 0; step < 4; step++) {
    await texts.append([step, 7, step === 2 ? undefined : 11]);
    all.push(...texts.scores.map((scores) => [...scores]));
  }
  return all;
}

describe.each(Object.entries(layers))('%s', (_, sparse) => {
  const built = buildModel({ ...decoder, sparse });

  test('prefill and decode agree with the whole model', async () => {
    const expected = await scoresOf(built, models.whole(built));
    const { passes, store } = await models.serve(built);
    const scores = await scoresOf(built, passes);
    expected.forEach((row, at) => row.forEach((score, id) => expect(scores[at][id]).toBeCloseTo(score, 4)));
    expect(store.stats.evictions).toBe(0);
  });

  test('a single text goes through the experts of a token in one program, with the same bits', async () => {
    const write = async (passes: Passes): Promise<number[][]> => {
      const texts = await new CachedWriter(built.model as LanguageModel, passes).begin([[3, 1, 4]]);
      const all = [[...texts.scores[0]]];
      for (let token = 0; token < 6; token++) {
        await texts.append([token]);
        all.push([...texts.scores[0]]);
      }
      return all;
    };
    const { passes } = await models.serve(built);
    const { passes: few } = await models.serve(built, { slots: 1 });
    expect(await write(passes)).toEqual(await write(few));
  });

  test('no bit depends on how many experts fit, nor on which are evicted', async () => {
    const trace: RoutedStep[] = [];
    const observer = {
      observe: ({ layer, distinct }: RoutingDecision) => void trace.push({ layer, experts: distinct }),
    };
    const { passes, store } = await models.serve(built, { observer });
    const resident = await scoresOf(built, passes);
    const total = store.maxPinned;
    for (const policy of policyNames) {
      for (const slots of [1, Math.floor(total / 2)]) {
        const few = await models.serve(built, { slots, policy, trace });
        expect(await scoresOf(built, few.passes), `${policy}, ${slots} places`).toEqual(resident);
        expect(few.store.stats.pinned).toBe(0);
        if (slots === 1) expect(few.store.stats.evictions).toBeGreaterThan(10);
        await few.passes.release();
      }
    }
  });
});

test('a generator writes the same text over a store', async () => {
  const built = buildModel({ ...decoder, sparse: layers['softmax top-2 of 6'] });
  const model = built.model as LanguageModel;
  const options: GenerationOptions = { maxTokens: 12, temperature: 1, topK: 0, topP: 1, seed: 1 };
  const expected = await (await Generator.create(model, models.whole(built))).complete(prompts, options);
  const { passes } = await models.serve(built, { slots: 2 });
  expect(await (await Generator.create(model, passes)).complete(prompts, options)).toEqual(expected);
});

test('an encoder–decoder writes the same targets over a store, whatever fits', async () => {
  const built = buildModel({
    kind: 'encoderDecoder',
    ...{ hiddenSize: 16, numEncoderLayers: 2, numDecoderLayers: 2, numHeads: 2, intermediateSize: 24 },
    ...{ contextLength: 40, targetLength: 40, attentionScale: 1, padTokenId: 3, tieEmbeddings: false },
    initialization: { scale: 4, embedding: 1 },
    sparse: { every: 1, numExperts: 4, topK: 2 },
  });
  const model = built.model as EncoderDecoder;
  const write = async (passes: Passes): Promise<unknown> => {
    const texts = await new SequenceWriter(model, passes).begin(prompts);
    const all = texts.scores.map((scores) => [...scores]);
    for (let token = 4; token < 8; token++) {
      await texts.append([token, token === 6 ? undefined : 9, 11]);
      all.push(...texts.scores.map((scores) => [...scores]));
    }
    return all;
  };
  const resident = await write((await models.serve(built)).passes);
  for (const slots of [1, 3]) {
    const { passes, store } = await models.serve(built, { slots });
    expect(await write(passes)).toEqual(resident);
    expect([store.stats.pinned, store.stats.evictions > 20]).toEqual([0, true]);
  }
  const options: GenerationOptions = { maxTokens: 12, temperature: 1, topK: 0, topP: 1, seed: 1 };
  const expected = await (await Generator.create(model, models.whole(built))).complete(prompts, options);
  const { passes } = await models.serve(built, { slots: 2 });
  expect(await (await Generator.create(model, passes)).complete(prompts, options)).toEqual(expected);
});

test('a pass that fails leaves nothing behind in the store, and the next has its bits', async () => {
  const built = buildModel({ ...decoder, sparse: layers['softmax top-2 of 6'] });
  const resident = await scoresOf(built, (await models.serve(built)).passes);
  let broken = 3;
  const { passes, store } = await models.serve(built, {
    slots: 3,
    isBroken: (layer, expert) => layer === 1 && expert === broken,
  });
  const open = new Map<string, number>();
  const count = (layer: number, experts: readonly number[], change: number): void => {
    for (const expert of new Set(experts)) {
      const key = `${layer}.${expert}`;
      open.set(key, (open.get(key) ?? 0) + change);
    }
  };
  const [announce, acquire, withdraw] = [store.announce, store.acquire, store.withdraw].map((method) =>
    method.bind(store),
  ) as [typeof store.announce, typeof store.acquire, typeof store.withdraw];
  vi.spyOn(store, 'announce').mockImplementation((layer, experts) => {
    count(layer, experts, 1);
    return announce(layer, experts);
  });
  vi.spyOn(store, 'acquire').mockImplementation((layer, experts) => {
    count(layer, experts, -1);
    return acquire(layer, experts);
  });
  vi.spyOn(store, 'withdraw').mockImplementation((layer, experts) => {
    count(layer, experts, -1);
    withdraw(layer, experts);
  });
  await expect(scoresOf(built, passes)).rejects.toThrow('expert 3 cannot be read: bad sector');
  expect([...open.values()].every((times) => times === 0)).toBe(true);
  expect(store.stats.pinned).toBe(0);
  broken = -1;
  expect(await scoresOf(built, passes)).toEqual(resident);
});
