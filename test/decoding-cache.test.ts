/**
 * A text in several passes over a cache is the text in one pass: whatever the positions, the heads, the layers, and the
 * lengths of the texts beside it.
 * @module
 */
import { describe, expect, test } from 'vitest';
import { KeyValueStore } from '../src/decode/index.js';
import { cast, input, type Tensor } from '../src/graph/index.js';
import {
  cacheInputs,
  cacheOutputs,
  LanguageModel,
  languageModelSchema,
  type CacheInput,
} from '../src/models/index.js';
import {
  evaluationContext,
  fillUniform,
  nameParameters,
  ParameterArena,
  streamKey,
} from '../src/nn/index.js';
import { compile } from '../src/runtime/index.js';
import { distance } from './support/numbers.js';

type Options = Readonly<Record<string, unknown>>;

const [batch, time, vocabSize, capacity] = [2, 14, 23, 16];
const sparse = { numExperts: 4, topK: 2, intermediateSize: 12 };

const cases: readonly (readonly [string, Options])[] = [
  ['dense, rotary positions', {}],
  ['rotary positions with another base', { rotary: { base: 500 } }],
  ['learned positions', { positions: 'learned', norm: 'layer', bias: true }],
  ['relative positions', { positions: 'relative' }],
  ['no positions', { positions: 'none' }],
  ['grouped queries', { numHeads: 6, numKeyValueHeads: 2, headSize: 4 }],
  ['one key head, wide heads', { numHeads: 3, numKeyValueHeads: 1, headSize: 10, positions: 'relative' }],
  ['norms behind', { blockNorm: 'post', norm: 'layer' }],
  ['double norms behind', { blockNorm: 'postDouble', norm: 'layer', tieEmbeddings: false }],
  ['Switch without places', { sparse: { ...sparse, topK: 1 } }],
  ['places for everybody', { sparse: { ...sparse, dispatch: { kind: 'capacity', evalCapacityFactor: 4 } } }],
  ['σ-MoE', { sparse: { ...sparse, router: { kind: 'sigmoid' } } }],
  ['shared experts', { sparse: { ...sparse, sharedIntermediateSize: 8, sharedGate: true } }],
  ['gated experts in every second block', { activation: 'swiglu', sparse: { ...sparse, every: 2 } }],
  ['one router for all', { sparse: { ...sparse, routerSharing: {} } }],
  ['a repeated decision', { sparse: { ...sparse, routerSharing: { share: 'decision' } } }],
  ['expert choice', { sparse: { ...sparse, router: { kind: 'expertChoice' } } }],
  ['random experts', { sparse: { ...sparse, router: { kind: 'random' } } }],
  ['experts by hash', { sparse: { ...sparse, router: { kind: 'hash' } } }],
  ['moving clusters', { sparse: { ...sparse, router: { kind: 'adaptiveClustering', stats: 'running' } } }],
  ['strata', { sparse: { kind: 'stratified', strata: [2, 3] } }],
  ['top-K activations', { sparse: { kind: 'topKActivation', topK: 5 } }],
  ['product keys', { sparse: { kind: 'productKey', heads: 2, subKeys: 5, topK: 3 } }],
];

function build(options: Options): { model: LanguageModel; weights: Map<string, Float32Array> } {
  const model = new LanguageModel({
    ...languageModelSchema.parse({
      hiddenSize: 24,
      numLayers: 3,
      numHeads: 2,
      intermediateSize: 20,
      contextLength: capacity,
      // Large enough that decisions are made for good reasons, and that a change of one is seen.
      initialization: { scale: 4, embedding: 1 },
      ...options,
    }),
    vocabSize,
  });
  const parameters = nameParameters(model);
  const weights = new Map(ParameterArena.allocate(parameters).initialize(parameters, 5).views);
  for (const [name, { trainable, size }] of parameters) {
    if (trainable) continue;
    const state = new Float32Array(size);
    fillUniform(streamKey(6, name), state);
    weights.set(name, state);
  }
  return { model, weights };
}

const text = Int32Array.from({ length: batch * time }, (_, i) => (7 * i + Math.floor(i / 5)) % vocabSize);
const row = (logits: ArrayLike<number>, at: number): number[] =>
  Array.from({ length: vocabSize }, (_, id) => logits[at * vocabSize + id]);

/** One pass over `[batch, length]` ids after what a store holds, `counts` of them real. */
async function pass(
  model: LanguageModel,
  weights: ReadonlyMap<string, Float32Array>,
  store: KeyValueStore,
  [ids, length, counts]: readonly [Int32Array, number, readonly number[]],
): Promise<Float32Array> {
  const starts = store.lengths.every((used) => used === 0);
  const cache: CacheInput = starts ? 'start' : cacheInputs(model.cacheSizes, batch, store.capacity);
  const tokens = input('tokens', 'int32', [batch, length]);
  const mask = cast(input('mask', 'bool', [batch, length]), 'float32');
  const { logits, cache: kept } = model.forward({ tokens, mask, cache }, evaluationContext());
  const program = await compile<string>({ logits, ...cacheOutputs(kept!) });
  const real = Uint8Array.from(ids, (_, i) => Number(i % length < counts[Math.floor(i / length)]));
  program.bindKnown(weights).bindKnown(Object.entries(store.feeds)).bind({ tokens: ids, mask: real });
  const results = await program.run();
  store.append(results, length, counts);
  await program.release();
  return results['logits'] as Float32Array;
}

test.each(cases)('%s', async (_, options) => {
  const { model, weights } = build(options);
  expect(model.wholeText).toBeUndefined();
  const tokens = input('tokens', 'int32', [batch, time]);
  const { logits } = model.forward({ tokens }, evaluationContext());
  const whole = await compile({ logits });
  const expected = (await whole.bindKnown(weights).run({ tokens: text })).logits as Float32Array;

  // A beginning of 5 and 3 tokens, then 4 and 6, then one by one: until the longer is done, and the shorter as well.
  const store = new KeyValueStore(model.cacheSizes, batch, 9);
  const shape: readonly (readonly [number, readonly number[]])[] = [
    [6, [5, 3]],
    [6, [4, 6]],
    ...Array.from({ length: 5 }, (): [number, number[]] => [1, [1, 1]]),
  ];
  for (const [length, counts] of shape) {
    const before = [...store.lengths];
    if (Math.max(...before) + length > store.capacity) store.grow(capacity);
    // Padding is whatever it is: the last id of the vocabulary here.
    const ids = Int32Array.from({ length: batch * length }, (_, i) => {
      const [b, t] = [Math.floor(i / length), i % length];
      return t < counts[b] ? text[b * time + before[b] + t] : vocabSize - 1;
    });
    const actual = await pass(model, weights, store, [ids, length, counts]);
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < counts[b]; t++) {
        const difference = distance(row(actual, b * length + t), row(expected, b * time + before[b] + t));
        expect(difference, `text ${b}, token ${before[b] + t}`).toBeLessThan(1e-5);
      }
    }
  }
  expect([...store.lengths]).toEqual([14, 14]);
  await whole.release();
});

describe('models that need a text in one piece', () => {
  test.each<[Options, string]>([
    [
      { positions: 'transformerXL', norm: 'layer' },
      'transformerXL positions read the states of a whole segment',
    ],
    [
      { sparse: { ...sparse, router: { kind: 'adaptiveClustering', stats: 'prefix' } } },
      "layer 0: clusters are measured over the text so far; stats 'running' reads a moving average instead",
    ],
  ])('%o', (options, reason) => {
    const { model } = build(options);
    expect(model.wholeText).toBe(reason);
    const tokens: Tensor = input('tokens', 'int32', [batch, time]);
    expect(() => model.forward({ tokens, cache: 'start' }, evaluationContext())).toThrow(
      `no pass can go on: ${reason}`,
    );
  });
});
