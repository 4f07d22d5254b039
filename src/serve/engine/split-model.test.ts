import { afterAll, describe, expect, test } from 'vitest';
import { buildModel, type BuiltModel } from '../../../test/support/kept-experts.js';
import { SplitModels } from '../../../test/support/split-models.js';
import type { Passes } from '../../decode/index.js';
import { cast, constant, input, type Tensor } from '../../graph/index.js';
import { Classifier, EncoderDecoder } from '../../models/index.js';
import type { FeedForwardContext } from '../../moe/index.js';
import type { TraceContext } from '../../nn/index.js';
import type { Prefetcher, RoutingDecision, RoutingSource, SuppliedRouting } from './hooks.js';
import { openSplitModel } from './split-model.js';

const models = new SplitModels();
afterAll(() => models.close());

const [batch, time] = [2, 5];
const sizes = { hiddenSize: 16, numHeads: 2, intermediateSize: 24, contextLength: 8 };
const start = { initialization: { scale: 4, embedding: 0.5 } };
const decoder = { ...sizes, ...start, numLayers: 3, positions: 'rotary' };
const pair = {
  ...sizes,
  ...start,
  kind: 'encoderDecoder',
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  padTokenId: 3,
};
const classifier = {
  ...sizes,
  kind: 'classifier',
  numEncoderLayers: 2,
  eosTokenId: 1,
  numLabels: 3,
};
const topTwo = { numExperts: 4, topK: 2 };

const variants: Readonly<Record<string, object>> = {
  'an encoder–decoder': { ...pair, sparse: { ...topTwo, every: 1 } },
  'an encoder–decoder with Switch layers': { ...pair, sparse: { numExperts: 4, every: 2 } },
  'a classifier that reads the encoder': { ...classifier, head: 'encoderMean', sparse: topTwo },
  'a classifier that reads the decoder': {
    ...classifier,
    head: 'decoderEos',
    numDecoderLayers: 2,
    sparse: { ...topTwo, every: 1 },
  },
  'shared experts with a gate': {
    ...decoder,
    sparse: { ...topTwo, sharedIntermediateSize: 8, sharedGate: true },
  },
  'experts with biases and GELU': { ...decoder, bias: true, activation: 'gelu', sparse: topTwo },
  'a router of all layers': { ...decoder, sparse: { ...topTwo, every: 1, routerSharing: { layers: null } } },
  'a decision of all layers': {
    ...decoder,
    sparse: { ...topTwo, every: 1, routerSharing: { layers: null, share: 'decision' } },
  },
  'routers that read the decision before': {
    ...decoder,
    sparse: { ...topTwo, every: 1, router: { kind: 'adaptiveClustering' } },
  },
  'sigmoid gates': { ...decoder, sparse: { ...topTwo, router: { kind: 'sigmoid' } } },
  'routing by a table': { ...decoder, sparse: { ...topTwo, router: { kind: 'hash' } } },
  'strata of experts': { ...decoder, sparse: { kind: 'stratified', strata: [2, 3] } },
  'experts that share a centre': {
    ...decoder,
    sparse: { ...topTwo, experts: { kind: 'factorised', rank: 3 } },
  },
  'no experts beside dense layers': { ...decoder, sparse: { kind: 'topKActivation', topK: 4 } },
};

function trace({ model }: BuiltModel, context: TraceContext): { logits: Tensor } {
  const ids = (name: string): Tensor => input(name, 'int32', [batch, time]);
  const mask = cast(input('mask', 'bool', [batch, time]), 'float32');
  if (model instanceof Classifier) return model.forward({ source: ids('source'), sourceMask: mask }, context);
  if (model instanceof EncoderDecoder)
    return model.forward({ source: ids('source'), sourceMask: mask, target: ids('target') }, context);
  return model.forward({ tokens: ids('tokens'), mask }, context);
}

/** Two texts of 5 and 3 tokens. */
async function logitsOf(built: BuiltModel, passes: Passes, extra: object = {}): Promise<number[]> {
  const pass = await passes.get('whole texts', (context) => ({
    logits: trace(built, { ...context, ...extra }).logits,
  }));
  const tokens = Int32Array.of(4, 7, 2, 9, 1, 3, 8, 1, 0, 0);
  const mask = Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 1, 0, 0);
  const { model } = built;
  const feeds: Record<string, Int32Array> =
    model instanceof Classifier
      ? { source: tokens }
      : model instanceof EncoderDecoder
        ? { source: tokens, target: tokens.toReversed() }
        : { tokens };
  return Array.from((await pass.run({ mask, ...feeds })).logits as Float32Array);
}

describe.each(Object.entries(variants))('%s', (_, options) => {
  const built = buildModel(options);

  test('a cut model agrees with the whole one, with all experts in memory and bit for bit with one', async () => {
    const expected = await logitsOf(built, models.whole(built));
    const resident = await logitsOf(built, (await models.serve(built)).passes);
    expected.forEach((logit, at) => expect(resident[at]).toBeCloseTo(logit, 4));
    const one = await models.serve(built, { slots: 1 });
    expect(await logitsOf(built, one.passes)).toEqual(resident);
    expect(one.store.stats.pinned).toBe(0);
    await models.close();
  });
});

const everyBlock = buildModel({ ...decoder, sparse: { ...topTwo, every: 1 } });

test('observers see every decision, padding marked, before its experts are computed', async () => {
  const seen: Pick<RoutingDecision, 'layer' | 'tokens' | 'topK'>[] = [];
  const chosen: number[][] = [];
  const { passes, store } = await models.serve(everyBlock, {
    observer: {
      observe: ({ layer, tokens, topK, experts, distinct }) => {
        seen.push({ layer, tokens, topK });
        chosen.push([...experts]);
        expect(distinct).toEqual([...new Set(experts)].filter((expert) => expert >= 0).sort());
      },
    },
  });
  await logitsOf(everyBlock, passes);
  expect(seen).toEqual([0, 1, 2].map((layer) => ({ layer, tokens: batch * time, topK: 2 })));
  for (const experts of chosen) {
    expect(experts.slice(0, 16).every((expert) => expert >= 0)).toBe(true);
    expect(experts.slice(16)).toEqual([-1, -1, -1, -1]);
  }
  expect(store.stats.accesses).toBe(chosen.reduce((sum, experts) => sum + new Set(experts).size - 1, 0));
});

test('decisions that are supplied replace the routers, and equal ones change nothing', async () => {
  const recorded: SuppliedRouting[] = [];
  const observer = {
    observe: ({ experts, gates }: RoutingDecision) =>
      void recorded.push({ experts: experts.slice(), gates: gates.slice() }),
  };
  const own = await logitsOf(everyBlock, (await models.serve(everyBlock, { observer })).passes);
  const replay: RoutingSource = { topK: [2, 2, 2], decide: () => recorded };
  expect(await logitsOf(everyBlock, (await models.serve(everyBlock, { routing: replay })).passes)).toEqual(
    own,
  );

  const rows = batch * time;
  const one: SuppliedRouting = {
    experts: new Int32Array(rows).fill(3),
    gates: new Float32Array(rows).fill(0.25),
  };
  const routing: RoutingSource = { topK: [1, 1, 1], decide: (_, layers) => layers.map(() => one) };
  const supplied = await logitsOf(everyBlock, (await models.serve(everyBlock, { routing })).passes);
  const override: FeedForwardContext['routingOverride'] = {
    experts: constant('int64', [rows, 1], new Array<number>(rows).fill(3)),
    gates: constant('float32', [rows, 1], new Array<number>(rows).fill(0.25)),
  };
  const expected = await logitsOf(everyBlock, models.whole(everyBlock), { routingOverride: override });
  expected.forEach((logit, at) => expect(supplied[at]).toBeCloseTo(logit, 4));
  expect(supplied).not.toEqual(own);
});

test('layers with one router look ahead at what they decide themselves; the last one does not', async () => {
  const built = buildModel({ ...decoder, sparse: { ...topTwo, every: 1, routerSharing: { layers: null } } });
  const begun: string[] = [];
  const ahead: boolean[] = [];
  const prefetcher: Prefetcher = {
    lookAhead: true,
    begin: ({ name, feeds }) => void begun.push(`${name}: ${Object.keys(feeds).sort().join(', ')}`),
    decided: ({ experts, ahead: next }) => {
      ahead.push(next !== undefined);
      if (next) expect([...next].slice(0, 16)).toEqual([...experts].slice(0, 16));
    },
  };
  const { passes } = await models.serve(built, { prefetcher });
  const plain = await models.serve(built);
  expect(await logitsOf(built, passes)).toEqual(await logitsOf(built, plain.passes));
  expect(begun).toEqual(['whole texts: mask, tokens']);
  expect(ahead).toEqual([true, true, false]);
});

test('passes that are begun together wait for each other', async () => {
  const { passes } = await models.serve(everyBlock, { slots: 2 });
  const one = await passes.get('one', (context) => ({ logits: trace(everyBlock, context).logits }));
  const other = await passes.get('other', (context) => ({ logits: trace(everyBlock, context).logits }));
  const feeds = [1, 2].map((step) => ({
    tokens: Int32Array.from({ length: batch * time }, (_, i) => (step * i) % 31),
    mask: new Uint8Array(batch * time).fill(1),
  }));
  const alone = [];
  for (const feed of feeds) alone.push(((await one.run(feed))['logits'] as Float32Array).slice());
  const together = await Promise.all([one.run(feeds[0]), other.run(feeds[1])]);
  expect(together.map(({ logits }) => logits)).toEqual(alone);
  const failed = other.run({ tokens: Int32Array.of(1) });
  const after = one.run(feeds[1]);
  await expect(failed).rejects.toThrow("'tokens' is int32[2, 5] but was given 1 numbers");
  expect((await after)['logits']).toEqual(alone[1]);
});

test('feeds that a pass does not have, and a store of another model, are refused', async () => {
  const { passes, store } = await models.serve(everyBlock);
  const pass = await passes.get('whole texts', (context) => ({
    logits: trace(everyBlock, context).logits,
  }));
  await expect(pass.run({ words: Int32Array.of(1) })).rejects.toThrow(
    "the pass has no feed 'words'; its feeds are: tokens, mask",
  );
  const other = buildModel({ ...decoder, sparse: { ...topTwo, every: 2 } });
  await expect(openSplitModel(other.model, other.weights, store)).rejects.toThrow(
    'the store is of another model: its layers are blocks.0.feedForward.experts (4), ' +
      'blocks.1.feedForward.experts (4), blocks.2.feedForward.experts (4), ' +
      "the model's are blocks.1.feedForward.experts (4)",
  );
});
