import { afterAll, expect, test } from 'vitest';
import { KeptExperts } from '../../../test/support/kept-experts.js';
import { cast, input, type Tensor } from '../../graph/index.js';
import { CachedWriter } from '../../decode/index.js';
import type { Classifier, LanguageModel } from '../../models/index.js';
import { nameParameters, ParameterArena } from '../../nn/index.js';
import { buildModel } from '../../../test/support/kept-experts.js';
import { openSplitModel, type SplitModelOptions } from '../engine/split-model.js';
import { createPolicy } from '../store/policies/index.js';
import { PagedExpertStore } from '../store/paged-store.js';
import { hashTable, type HashTable, type TableSource } from './hash-table.js';
import { RoutingPredictor } from './network.js';
import { predictorSchema } from './options.js';
import { PredictorProgram } from './predictor-program.js';
import { LookAheadPrefetch, PredictedPrefetch, PredictedRouting, predictedNames } from './routing-modes.js';
import { longestText, smallClassifier, smallTexts } from './small-model.case.js';
import { TablesAhead } from './tables-ahead.js';

const released: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const release of released) await release();
});

const small = smallClassifier(3, { numExperts: 6, topK: 2 });
const layers = [1, 3].map((layerIndex) => ({
  name: `encoder.${layerIndex}`,
  layerIndex,
  numExperts: 6,
  topK: 2,
}));
const batchSize = 3;
const batches = [...smallTexts(9, 4, batchSize)].map(({ source, sourceMask }) => ({ source, sourceMask }));

function storeOf(built: typeof small, slots = Infinity): PagedExpertStore {
  const cold = new KeptExperts(built);
  const numExperts = cold.layers.map((layer) => layer.numExperts);
  const store = new PagedExpertStore(cold, { slots, policy: createPolicy('lru', { numExperts, trace: [] }) });
  released.push(() => store.close());
  return store;
}

/** Everything that the classifier says of all batches, and its decisions. */
async function classify(
  store: PagedExpertStore,
  hooks: SplitModelOptions = {},
  { model, weights } = small,
): Promise<Ran> {
  const passes = await openSplitModel(model, weights, store, hooks);
  const size = [batchSize, longestText];
  const pass = await passes.get('classify', (context) => {
    const source = input('source', 'int32', size);
    const sourceMask = cast(input('sourceMask', 'bool', size), 'float32');
    const { logits, records } = (model as Classifier).forward({ source, sourceMask }, context);
    const outputs: Record<string, Tensor> = { logits };
    for (const { name, experts, gates, probabilities } of records) {
      outputs[`${name}.experts`] = experts;
      outputs[`${name}.gates`] = gates;
      outputs[`${name}.probabilities`] = probabilities;
    }
    return outputs;
  });
  const ran: Ran = { logits: [], decisions: [] };
  for (const batch of batches) {
    const results = await pass.run(batch);
    ran.logits.push([...(results['logits'] as Float32Array)]);
    ran.decisions.push(
      layers.map(({ name, numExperts, topK }) => {
        const experts = Int32Array.from(results[`${name}.experts`] as Int32Array);
        const shares = results[`${name}.probabilities`] as Float32Array;
        return {
          experts,
          gates: Float32Array.from(results[`${name}.gates`] as Float32Array),
          alphas: Float32Array.from(experts, (e, i) => shares[Math.floor(i / topK) * numExperts + e]),
        };
      }),
    );
  }
  await passes.release();
  return ran;
}

interface Ran {
  readonly logits: number[][];
  readonly decisions: { experts: Int32Array; gates: Float32Array; alphas: Float32Array }[][];
}

/** Tables of what the routers decided, with their softmax over all experts. */
function oracle({ decisions }: Ran): TableSource {
  let next = 0;
  return {
    tableFor: async (rows): Promise<HashTable> => {
      const batch = next++;
      const { sourceMask } = batches[batch];
      const real = Array.from(sourceMask.keys()).filter((i) => sourceMask[i] > 0);
      const pick = (data: ArrayLike<number>): number[] => real.flatMap((i) => [data[2 * i], data[2 * i + 1]]);
      return hashTable(
        rows,
        layers.map((layer, l) => ({
          layer,
          topK: 2,
          experts: Int32Array.from(pick(decisions[batch][l].experts)),
          probabilities: Float32Array.from(pick(decisions[batch][l].alphas)),
        })),
      );
    },
  };
}

/** A predictor that has learnt nothing. */
function ignorant(): TableSource {
  const options = predictorSchema.parse({ embeddingSize: 8, hiddenSize: 4, layers });
  const parameters = nameParameters(new RoutingPredictor(options));
  const weights = ParameterArena.allocate(parameters).initialize(parameters, 1).views;
  const loaded = { options, weights, trainedFor: '0'.repeat(64), source: 'a test' };
  const program = new PredictorProgram(loaded, small.weights.get('embedding.weight')!, {
    contextLength: longestText,
  });
  released.push(() => program.release());
  return new TablesAhead(program);
}

test('with the true decisions in its table, sida computes what the model computes', async () => {
  const resident = await classify(storeOf(small));
  const store = storeOf(small, 4);
  const routing = new PredictedRouting({
    model: small.model,
    store,
    predicted: layers,
    tables: oracle(resident),
  });
  const predicted = await classify(store, { routing });
  expect(predicted.logits).toEqual(resident.logits);
  for (const [batch, decisions] of predicted.decisions.entries()) {
    decisions.forEach(({ experts, gates }, l) => {
      expect(experts).toEqual(resident.decisions[batch][l].experts);
      batches[batch].sourceMask.forEach((real, i) => {
        for (const k of [0, 1])
          expect(gates[2 * i + k]).toBe(real ? resident.decisions[batch][l].gates[2 * i + k] : 0);
      });
    });
  }
  expect(store.stats.evictions).toBeGreaterThan(0);
});

const standardDeviation = 1;
const scaled = { normalizeGates: true, scale: 2.5, standardDeviation };
test.each([
  ['softmax, gates that add up to 1, scaled', { kind: 'softmax', ...scaled }],
  ['softmax, scaled', { kind: 'softmax', scale: 2.5, standardDeviation }],
  ['biasBalanced', { kind: 'biasBalanced', score: 'softmax', ...scaled }],
  ['biasBalanced, sigmoids that add up to 1', { kind: 'biasBalanced', ...scaled }],
  ['noisyTopK', { kind: 'noisyTopK', initialization: 'model' }],
])('the true decisions and α give what the model computes: %s', async (_, router) => {
  const built = smallClassifier(3, { numExperts: 6, topK: 2, router });
  const resident = await classify(storeOf(built), {}, built);
  const store = storeOf(built, 4);
  const tables = oracle(resident);
  const routing = new PredictedRouting({ model: built.model, store, predicted: layers, tables });
  const { logits, decisions } = await classify(store, { routing }, built);
  logits.flat().forEach((logit, i) => expect(logit).toBeCloseTo(resident.logits.flat()[i], 5));
  decisions[0][1].gates.forEach((gate, i) =>
    expect(gate).toBeCloseTo(batches[0].sourceMask[i >> 1] ? resident.decisions[0][1].gates[i] : 0, 5),
  );
});

test.each([
  ['SigmoidRouter', { kind: 'sigmoid' }],
  ['SinkhornRouter', { kind: 'sBase' }],
  ['BiasBalancedRouter', { kind: 'biasBalanced', normalizeGates: false }],
  ['HashRouter', { kind: 'hash' }],
  ['AdaptiveClusteringRouter', { kind: 'adaptiveClustering', inner: { kind: 'softmax' } }],
])('α cannot weigh as a %s does', (name, router) => {
  const { model, weights } = smallClassifier(3, { numExperts: 6, topK: 2, router });
  const store = storeOf({ model, weights });
  expect(() => new PredictedRouting({ model, store, predicted: layers, tables: ignorant() })).toThrow(
    `layer encoder.blocks.1.feedForward.experts has a ${name}, whose weights are not shares of a softmax over all experts; let it prefetch`,
  );
});

test('factors weigh the choices of a table', async () => {
  const resident = await classify(storeOf(small));
  const store = storeOf(small);
  const factors = [0.5, 0.25];
  const routing = new PredictedRouting({
    model: small.model,
    store,
    predicted: layers,
    tables: oracle(resident),
    factors,
  });
  const { decisions, logits } = await classify(store, { routing });
  expect(logits).not.toEqual(resident.logits);
  for (const k of [0, 1])
    expect(decisions[0][0].gates[k]).toBeCloseTo(factors[k] * resident.decisions[0][0].gates[k], 6);
});

test('a predictor in the routers’ place answers otherwise; one that prefetches changes no bit', async () => {
  const resident = await classify(storeOf(small));
  const store = storeOf(small);
  const routing = new PredictedRouting({ model: small.model, store, predicted: layers, tables: ignorant() });
  expect((await classify(store, { routing })).logits).not.toEqual(resident.logits);
  for (const slots of [2, 4, 9]) {
    const few = storeOf(small, slots);
    const prefetcher = new PredictedPrefetch(few, layers, ignorant());
    expect(await classify(few, { prefetcher }), `${slots} places`).toEqual(resident);
  }
});

test('with the true decisions ahead, every expert that fits is a hit', async () => {
  const resident = await classify(storeOf(small));
  const plain = storeOf(small, 12);
  await classify(plain);
  const ahead = storeOf(small, 12);
  const prefetcher = new PredictedPrefetch(ahead, layers, oracle(resident));
  expect(await classify(ahead, { prefetcher })).toEqual(resident);
  expect(ahead.stats.prefetchReads).toBeGreaterThan(0);
  expect(ahead.stats.hits).toBeGreaterThan(plain.stats.hits);
});

test('a prefetch whose predictor fails reads nothing ahead, and the pass goes on', async () => {
  const resident = await classify(storeOf(small));
  const store = storeOf(small, 4);
  const tables = { tableFor: (): Promise<HashTable> => Promise.reject(new Error('its process has ended')) };
  const prefetcher = new PredictedPrefetch(store, layers, tables);
  expect(await classify(store, { prefetcher })).toEqual(resident);
  expect(store.stats.prefetchReads).toBe(0);
  const routing = new PredictedRouting({ model: small.model, store, predicted: layers, tables });
  await expect(classify(storeOf(small), { routing })).rejects.toThrow('its process has ended');
});

const decoder = buildModel({
  hiddenSize: 16,
  numLayers: 4,
  numHeads: 2,
  intermediateSize: 24,
  contextLength: 32,
  positions: 'rotary',
  initialization: { scale: 4, embedding: 0.5 },
  sparse: { every: 1, numExperts: 6, topK: 2, router: { kind: 'softmax' } },
});

async function scores(store: PagedExpertStore, hooks: SplitModelOptions = {}): Promise<number[][]> {
  const passes = await openSplitModel(decoder.model, decoder.weights, store, hooks);
  const texts = await new CachedWriter(decoder.model as LanguageModel, passes).begin([[3, 1, 4], [2]]);
  const all = texts.scores.map((row) => [...row]);
  for (const token of [5, 9, 2]) {
    await texts.append([token, token + 1]);
    all.push(...texts.scores.map((row) => [...row]));
  }
  await passes.release();
  return all;
}

test('looking ahead with the next router changes no bit, and reads before the decision', async () => {
  const resident = await scores(storeOf(decoder));
  for (const slots of [2, 8]) {
    const store = storeOf(decoder, slots);
    expect(await scores(store, { prefetcher: new LookAheadPrefetch(store) })).toEqual(resident);
    if (slots === 8) expect(store.stats.prefetchReads).toBeGreaterThan(0);
  }
});

test('a prediction cannot take the place of routers that it does not know, or whose texts are not whole', async () => {
  const store = storeOf(small);
  const tables = ignorant();
  expect(
    () => new PredictedRouting({ model: small.model, store, predicted: layers.slice(0, 1), tables }),
  ).toThrow('layer encoder.blocks.3.feedForward.experts is not predicted');
  expect(() => predictedNames(store, [{ ...layers[0], numExperts: 5 }])).toThrow(
    'layer encoder.1 of 5 experts, which the model does not have',
  );
  const four = [0, 1, 2, 3].map((layerIndex) => ({
    name: String(layerIndex),
    layerIndex,
    numExperts: 6,
    topK: 2,
  }));
  const routing = new PredictedRouting({
    model: decoder.model,
    store: storeOf(decoder),
    predicted: four,
    tables,
  });
  await expect(
    routing.decide({ pass: 0, name: 'write', feeds: { 'cache.lengths': Int32Array.of(1) }, shapes: {} }, [0]),
  ).rejects.toThrow("pass 'write' does not have its texts whole");
});
