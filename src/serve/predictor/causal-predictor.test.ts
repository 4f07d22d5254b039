import { afterAll, describe, expect, test } from 'vitest';
import { buildModel, KeptExperts } from '../../../test/support/kept-experts.js';
import { CachedWriter } from '../../decode/index.js';
import type { LanguageModel } from '../../models/index.js';
import { nameParameters, ParameterArena } from '../../nn/index.js';
import { openSplitModel, type SplitModelOptions } from '../engine/split-model.js';
import { PagedExpertStore } from '../store/paged-store.js';
import { createPolicy } from '../store/policies/index.js';
import { CausalPredictor } from './causal-predictor.js';
import { CausalPrefetch } from './causal-prefetch.js';
import { RoutingPredictor } from './network.js';
import { predictorSchema, type PredictorOptions } from './options.js';
import type { LoadedPredictor } from './predictor-folder.js';
import { PredictorProgram } from './predictor-program.js';

const released: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const release of released) await release();
});

const built = buildModel({
  hiddenSize: 16,
  numLayers: 4,
  numHeads: 2,
  intermediateSize: 24,
  contextLength: 32,
  positions: 'rotary',
  initialization: { scale: 4, embedding: 0.5 },
  sparse: { every: 1, numExperts: 6, topK: 2, router: { kind: 'softmax' } },
});
const embeddings = built.weights.get('embedding.weight')!;
const layers = [0, 1, 2, 3].map((layerIndex) => ({
  name: String(layerIndex),
  layerIndex,
  numExperts: 6,
  topK: 2,
}));

function predictorOf(change: Partial<PredictorOptions> = {}): LoadedPredictor {
  const options = predictorSchema.parse({
    embeddingSize: 16,
    hiddenSize: 8,
    causal: true,
    layers,
    ...change,
  });
  const parameters = nameParameters(new RoutingPredictor(options));
  const { views, data } = ParameterArena.allocate(parameters).initialize(parameters, 1);
  // Larger states, so that attention has something to choose.
  for (let i = 0; i < data.length; i++) data[i] *= 3;
  return { options, weights: views, trainedFor: '0'.repeat(64), source: 'a test' };
}

describe.each([
  { sparsemax: 'paper' },
  { sparsemax: 'released' },
  { attention: 'none', recurrentLayers: 1 },
] as Partial<PredictorOptions>[])('%o', (change) => {
  test('token by token it says what it says of the whole text', async () => {
    const predictor = predictorOf(change);
    const text = Int32Array.of(3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5);
    const whole = new PredictorProgram(predictor, embeddings, { contextLength: 32, batchSize: 1 });
    const steps = await CausalPredictor.open(predictor, embeddings);
    released.push(
      () => whole.release(),
      () => steps.release(),
    );
    const expected = await whole.predict([text]);
    const memory = steps.begin();
    for (const [t, token] of text.entries()) {
      const experts = await steps.next(memory, token);
      layers.forEach((_, l) => expect(experts[l]).toEqual(expected[l].experts.slice(2 * t, 2 * t + 2)));
    }
    expect(memory.length).toBe(text.length);
  });
});

test('it makes as many guesses as it is told, and no more than there are experts', async () => {
  for (const [topK, made] of [
    [1, 1],
    [4, 4],
    [9, 6],
  ]) {
    const steps = await CausalPredictor.open(predictorOf(), embeddings, { topK });
    released.push(() => steps.release());
    for (const experts of await steps.next(steps.begin(), 3)) expect(new Set(experts).size).toBe(made);
  }
});

test('a predictor that looks at later tokens is refused', async () => {
  await expect(CausalPredictor.open(predictorOf({ causal: false }), embeddings)).rejects.toThrow(
    'it looks at later tokens',
  );
});

async function scores(slots: number, hooksOf: (store: PagedExpertStore) => SplitModelOptions): Promise<Ran> {
  const cold = new KeptExperts(built);
  const numExperts = cold.layers.map((layer) => layer.numExperts);
  const store = new PagedExpertStore(cold, { slots, policy: createPolicy('lru', { numExperts, trace: [] }) });
  const passes = await openSplitModel(built.model, built.weights, store, hooksOf(store));
  const texts = await new CachedWriter(built.model as LanguageModel, passes).begin([[3, 1, 4], [2]]);
  const all = texts.scores.map((row) => [...row]);
  for (const token of [5, 9, 2]) {
    await texts.append([token, token + 1]);
    all.push(...texts.scores.map((row) => [...row]));
  }
  const { prefetchReads } = store.stats;
  await passes.release();
  await store.close();
  return { all, prefetchReads };
}

interface Ran {
  readonly all: number[][];
  readonly prefetchReads: number;
}

test('it reads ahead for text that is being written, and changes no bit', async () => {
  const resident = await scores(Infinity, () => ({}));
  const steps = await CausalPredictor.open(predictorOf(), embeddings);
  released.push(() => steps.release());
  for (const slots of [2, 10]) {
    const ran = await scores(slots, (store) => ({ prefetcher: new CausalPrefetch(store, steps) }));
    expect(ran.all).toEqual(resident.all);
    if (slots === 10) expect(ran.prefetchReads).toBeGreaterThan(0);
  }
});

test('a pass whose tokens cannot be foretold goes on, and later ones are foretold again', async () => {
  const resident = await scores(Infinity, () => ({}));
  const steps = await CausalPredictor.open(predictorOf(), embeddings);
  released.push(() => steps.release());
  let asked = 0;
  const next: CausalPredictor['next'] = (memory, token) =>
    ++asked === 2 ? Promise.reject(new Error('no memory is left')) : steps.next(memory, token);
  const failing = { layers: steps.layers, begin: () => steps.begin(), next } as CausalPredictor;
  const ran = await scores(10, (store) => ({ prefetcher: new CausalPrefetch(store, failing) }));
  expect(ran.all).toEqual(resident.all);
  expect(asked).toBeGreaterThan(4);
  expect(ran.prefetchReads).toBeGreaterThan(0);
});
