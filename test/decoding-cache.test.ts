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
  EncoderDecoder,
  encoderDecoderSchema,
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
  type CacheEntry,
  type CacheSizes,
} from '../src/nn/index.js';
import { compile, type TensorData } from '../src/runtime/index.js';
import { distance } from './support/numbers.js';

type Options = Readonly<Record<string, unknown>>;

const [batch, time, vocabSize, capacity] = [2, 14, 23, 16];
const sparse = { numExperts: 4, topK: 2, intermediateSize: 12 };

const cases: readonly (readonly [string, Options])[] = [
  ['dense, rotary positions', {}],
  ['rotary positions with another base', { rotary: { base: 500 } }],
  [
    'latent attention',
    {
      latentAttention: {
        queryRank: 5,
        keyValueRank: 6,
        contentHeadSize: 3,
        rotaryHeadSize: 4,
        valueHeadSize: 5,
      },
    },
  ],
  [
    'latent attention without a vector for queries, stretched',
    {
      latentAttention: { keyValueRank: 7, contentHeadSize: 2, rotaryHeadSize: 6, valueHeadSize: 3 },
      rotary: {
        interleaved: true,
        scaling: { kind: 'yarn', factor: 4, originalContextLength: 8, mscale: 0.7, mscaleAllDim: 0.9 },
      },
    },
  ],
  ['norms of each head', { queryKeyNorm: 'head', numHeads: 6, numKeyValueHeads: 2, headSize: 4 }],
  ['norms of all heads, cut off', { queryKeyNorm: 'all', clipQueryKeyValue: 0.5, attentionBias: 'inputs' }],
  ['learned positions', { positions: 'learned', norm: 'layer', bias: true }],
  ['relative positions', { positions: 'relative' }],
  ['no positions', { positions: 'none' }],
  ['grouped queries', { numHeads: 6, numKeyValueHeads: 2, headSize: 4 }],
  ['one key head, wide heads', { numHeads: 3, numKeyValueHeads: 1, headSize: 10, positions: 'relative' }],
  ['norms of queries and keys', { queryKeyNorm: 'head', attentionBias: 'inputs', numKeyValueHeads: 1 }],
  [
    'latent attention',
    {
      latentAttention: {
        queryRank: 9,
        keyValueRank: 7,
        contentHeadSize: 6,
        rotaryHeadSize: 4,
        valueHeadSize: 5,
      },
    },
  ],
  [
    'angles stretched by yarn',
    { rotary: { base: 500, scaling: { kind: 'yarn', factor: 4, originalContextLength: 8 } } },
  ],
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

/** Weights of a model, and state as training would have left it: all zeros hide what depends on it. */
function initialize(model: LanguageModel | EncoderDecoder): Map<string, Float32Array> {
  const parameters = nameParameters(model);
  const weights = new Map(ParameterArena.allocate(parameters).initialize(parameters, 5).views);
  for (const [name, { trainable, size }] of parameters) {
    if (trainable) continue;
    const state = new Float32Array(size);
    fillUniform(streamKey(6, name), state);
    weights.set(name, state);
  }
  return weights;
}

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
  return { model, weights: initialize(model) };
}

const text = Int32Array.from({ length: batch * time }, (_, i) => (7 * i + Math.floor(i / 5)) % vocabSize);
const row = (logits: ArrayLike<number>, at: number): number[] =>
  Array.from({ length: vocabSize }, (_, id) => logits[at * vocabSize + id]);

/** What a pass computes of its tokens. */
type Trace = (
  inputs: Readonly<{ tokens: Tensor; mask: Tensor; cache: CacheInput }>,
) => Readonly<{ logits: Tensor; cache: readonly CacheEntry[] | undefined }>;

/** One pass over `[batch, length]` ids after what a store holds, `counts` of them real. */
async function pass(
  trace: Trace,
  cacheSizes: readonly CacheSizes[],
  feeds: Iterable<readonly [string, TensorData]>,
  store: KeyValueStore,
  [ids, length, counts]: readonly [Int32Array, number, readonly number[]],
): Promise<Float32Array> {
  const starts = store.lengths.every((used) => used === 0);
  const cache: CacheInput = starts ? 'start' : cacheInputs(cacheSizes, batch, store.capacity);
  const tokens = input('tokens', 'int32', [batch, length]);
  const mask = cast(input('mask', 'bool', [batch, length]), 'float32');
  const { logits, cache: kept } = trace({ tokens, mask, cache });
  const program = await compile<string>({ logits, ...cacheOutputs(kept!) });
  const real = Uint8Array.from(ids, (_, i) => Number(i % length < counts[Math.floor(i / length)]));
  program.bindKnown(feeds).bindKnown(Object.entries(store.feeds)).bind({ tokens: ids, mask: real });
  const results = await program.run();
  store.append(results, length, counts);
  await program.release();
  return results['logits'] as Float32Array;
}

/**
 * A beginning of 5 and 3 tokens, then 4 and 6, then one by one: at every token as in one pass. Padding is whatever it is:
 * the last id of the vocabulary here.
 */
async function expectSameInPasses(
  trace: Trace,
  cacheSizes: readonly CacheSizes[],
  feeds: readonly (readonly [string, TensorData])[],
  expected: Float32Array,
): Promise<void> {
  const store = new KeyValueStore(cacheSizes, batch, 9);
  const shape: readonly (readonly [number, readonly number[]])[] = [
    [6, [5, 3]],
    [6, [4, 6]],
    ...Array.from({ length: 5 }, (): [number, number[]] => [1, [1, 1]]),
  ];
  for (const [length, counts] of shape) {
    const before = [...store.lengths];
    if (Math.max(...before) + length > store.capacity) store.grow(capacity);
    const ids = Int32Array.from({ length: batch * length }, (_, i) => {
      const [b, t] = [Math.floor(i / length), i % length];
      return t < counts[b] ? text[b * time + before[b] + t] : vocabSize - 1;
    });
    const actual = await pass(trace, cacheSizes, feeds, store, [ids, length, counts]);
    for (let b = 0; b < batch; b++) {
      for (let t = 0; t < counts[b]; t++) {
        const difference = distance(row(actual, b * length + t), row(expected, b * time + before[b] + t));
        expect(difference, `text ${b}, token ${before[b] + t}`).toBeLessThan(1e-5);
      }
    }
  }
  expect([...store.lengths]).toEqual([14, 14]);
}

test.each(cases)('%s', async (_, options) => {
  const { model, weights } = build(options);
  expect(model.wholeText).toBeUndefined();
  const tokens = input('tokens', 'int32', [batch, time]);
  const { logits } = model.forward({ tokens }, evaluationContext());
  const whole = await compile({ logits });
  const expected = (await whole.bindKnown(weights).run({ tokens: text })).logits as Float32Array;

  const trace: Trace = (inputs) => model.forward(inputs, evaluationContext());
  await expectSameInPasses(trace, model.cacheSizes, [...weights], expected);
  await whole.release();
});

const sourceTime = 7;
const encoderDecoders: readonly (readonly [string, Options])[] = [
  ['T5', { attentionScale: 1, scaleLogits: true, headSize: 7, initialization: { scale: 1, embedding: 1 } }],
  ['fairseq', { positions: 'sinusoidal', norm: 'layer', bias: true, scaleEmbeddings: true }],
  ['learned positions, own output', { positions: 'learned', tieEmbeddings: false }],
  ['Switch', { sparse: { numExperts: 4, router: { kind: 'softmax' } } }],
];

test.each(encoderDecoders)('encoder–decoder, %s', async (_, options) => {
  const model = new EncoderDecoder({
    ...encoderDecoderSchema.parse({
      kind: 'encoderDecoder',
      hiddenSize: 24,
      numEncoderLayers: 2,
      numDecoderLayers: 2,
      numHeads: 2,
      intermediateSize: 20,
      contextLength: sourceTime,
      targetLength: capacity,
      initialization: { scale: 4, embedding: 1 },
      ...options,
    }),
    vocabSize,
  });
  const weights = initialize(model);
  const source = input('source', 'int32', [batch, sourceTime]);
  const sourceMask = input('sourceMask', 'float32', [batch, sourceTime]);
  const feeds = {
    source: Int32Array.from({ length: batch * sourceTime }, (__, i) => (5 * i + 3) % vocabSize),
    // The second source is shorter.
    sourceMask: Float32Array.from({ length: batch * sourceTime }, (__, i) => Number(i < 11)),
  };
  const target = input('target', 'int32', [batch, time]);
  const whole = await compile({
    logits: model.forward({ source, sourceMask, target }, evaluationContext()).logits,
  });
  const run = whole
    .bindKnown(weights)
    .bind({ ...feeds, target: text })
    .run();
  const expected = (await run).logits as Float32Array;

  const entries = model.readSource({ source, sourceMask }, evaluationContext());
  const reader = await compile<string>(cacheOutputs(entries));
  const read = await reader.bindKnown(weights).bindKnown(Object.entries(feeds)).run();
  const states = entries.map((entry, layer) =>
    Object.fromEntries(
      Object.entries(entry).map(([part, { shape }]) => [
        part,
        input(`cross.${layer}.${part}`, 'float32', shape),
      ]),
    ),
  );
  const crossFeeds = Object.entries(read).map(
    ([name, data]) => [name.replace('cache', 'cross'), data] as const,
  );
  const trace: Trace = ({ tokens, mask, cache }) =>
    model.decode({ target: tokens, targetMask: mask, states, sourceMask, cache }, evaluationContext());
  const all = [...weights, ...crossFeeds, ['sourceMask', feeds.sourceMask] as const];
  await expectSameInPasses(trace, model.decoder.cacheSizes, all, expected);
  await Promise.all([whole.release(), reader.release()]);
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
