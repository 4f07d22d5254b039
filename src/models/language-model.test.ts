import { describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { add, input, mean, reshape, type DType } from '../graph/index.js';
import type { FeedForwardContext } from '../moe/index.js';
import {
  crossEntropy,
  evaluationContext,
  maskedMean,
  nameParameters,
  ParameterArena,
  RandomStream,
  streamKey,
  trainingContext,
} from '../nn/index.js';
import { languageModelSchema } from './language-model-options.js';
import { LanguageModel, totalAuxiliaryLoss } from './language-model.js';

const vocabSize = 11;
const [batch, time] = [2, 7];
const small = {
  hiddenSize: 8,
  numLayers: 2,
  numHeads: 4,
  intermediateSize: 12,
  contextLength: 9,
} as const;

type Input = Readonly<Record<string, unknown>>;

function create(options: Input = {}): LanguageModel {
  return new LanguageModel({ ...languageModelSchema.parse({ ...small, ...options }), vocabSize });
}

/** Traces a model with random weights and tokens. */
function trace(model: LanguageModel, { training = false, masked = false, dtype = 'float64' as DType } = {}) {
  const parameters = nameParameters(model, dtype);
  const tokens = input('tokens', 'int32', [batch, time]);
  const targets = input('targets', 'int32', [batch, time]);
  const mask = masked ? input('mask', dtype, [batch, time]) : undefined;
  const context = training ? trainingContext() : evaluationContext();
  const output = model.forward({ tokens, ...(mask && { mask }) }, context);
  const nll = crossEntropy(output.logits, reshape(targets, [batch * time]));
  const task = mask ? maskedMean(nll, reshape(mask, [batch * time])) : mean(nll);
  const auxiliary = totalAuxiliaryLoss(output.losses);
  return { ...output, parameters, context, loss: auxiliary ? add(task, auxiliary) : task };
}

const random = new RandomStream(streamKey(4));
const ids = (): Int32Array => Int32Array.from({ length: batch * time }, () => random.integer(vocabSize));
const tokens = ids();
const targets = ids();

const sparse = { every: 2, numExperts: 4, topK: 2, router: { kind: 'softmax', zLossCoefficient: 0.01 } };

const latentAttention = {
  queryRank: 5,
  keyValueRank: 6,
  contentHeadSize: 3,
  rotaryHeadSize: 4,
  valueHeadSize: 5,
};
const yarn = { kind: 'yarn', factor: 4, originalContextLength: 8, mscale: 0.7, mscaleAllDim: 0.9 };

const gradientCases: readonly (readonly [string, Input, { masked?: boolean; training?: boolean }])[] = [
  ['grouped queries, rotary, sparse every second block', { numKeyValueHeads: 2, sparse }, {}],
  [
    'learned positions, layer norm, gelu, biases',
    { positions: 'learned', norm: 'layer', activation: 'gelu', bias: true, tieEmbeddings: false },
    {},
  ],
  [
    'relative positions, padding, swiglu experts',
    {
      positions: 'relative',
      sparse: { ...sparse, every: 1, experts: { kind: 'feedForward', activation: 'swiglu', bias: true } },
    },
    { masked: true },
  ],
  [
    'no positions, capacity with drops, every kind of noise',
    {
      positions: 'none',
      dropout: 0.2,
      attentionDropout: 0.1,
      activation: 'geglu',
      sparse: {
        ...sparse,
        router: { kind: 'softmax', jitter: 0.05 },
        dispatch: { kind: 'capacity', capacityFactor: 0.75, minimumCapacity: 1 },
        experts: { kind: 'feedForward', expertDropout: 0.3 },
      },
    },
    { training: true },
  ],
  [
    'latent attention, neighbours rotated by stretched angles, choices limited to groups',
    {
      latentAttention,
      rotary: { interleaved: true, scaling: yarn },
      sparse: {
        layers: [0],
        numExperts: 6,
        topK: 2,
        router: { kind: 'softmax', scale: 1.5, groups: { count: 3, chosen: 2 } },
      },
    },
    { masked: true },
  ],
  [
    'norms of all heads together, cut off, biases on what goes in',
    { queryKeyNorm: 'all', clipQueryKeyValue: 0.6, attentionBias: 'inputs', normEpsilon: 0.01 },
    {},
  ],
  ['norms of each head', { queryKeyNorm: 'head', numKeyValueHeads: 1 }, {}],
];

describe('end to end', () => {
  test.each(gradientCases)('gradients equal finite differences: %s', async (_, options, how) => {
    const { parameters, loss, context } = trace(create(options), how);
    const noise = Object.fromEntries(
      [...context.noise.feeds].map(([name, { shape }]) => [
        name,
        new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
      ]),
    );
    context.noise.fill(1, 2, noise);
    const mask = Float64Array.from({ length: batch * time }, (_, at) => Number(at % time < 5));
    const error = await leafGradientError(
      loss,
      new Map([...parameters].map(([name, { tensor }]) => [name, tensor])),
      new Map<string, Float64Array | Int32Array>([
        ...randomParameters(parameters, 3),
        ['tokens', tokens],
        ['targets', targets],
        ['mask', mask],
        ...Object.entries(noise),
      ]),
      { samples: 6, seed: 5 },
    );
    expect(error).toBeLessThan(1e-7);
  });

  test.each(gradientCases.slice(0, 3))('float32 agrees with float64: %s', async (_, options) => {
    const both = await Promise.all(
      (['float32', 'float64'] as const).map(async (dtype) => {
        const { parameters, logits, loss } = trace(create(options), { dtype });
        const feeds = [...randomParameters(parameters, 3), ['tokens', tokens], ['targets', targets]] as const;
        return run({ logits, loss }, feeds, dtype);
      }),
    );
    expect(distance(both[0]!.logits, both[1]!.logits)).toBeLessThan(1e-5);
    expect(distance(both[0]!.loss, both[1]!.loss)).toBeLessThan(1e-5);
  });

  test('an untrained model predicts every token alike', async () => {
    const model = create({ sparse: { numExperts: 4 } });
    const { parameters, logits } = trace(model, { dtype: 'float32' });
    const { views } = ParameterArena.allocate(parameters).initialize(parameters, 1);
    const { nll } = await run(
      { nll: mean(crossEntropy(logits, reshape(input('targets', 'int32', [batch, time]), [14]))) },
      [...views, ['tokens', tokens], ['targets', targets]],
      'float32',
    );
    expect(nll[0]).toBeCloseTo(Math.log(vocabSize), 1);
  });
});

/** Rows of the logits that change when token `at` does: `[sequence, position]`. */
async function reach(options: Input, at: number, seed: number): Promise<[number, number][]> {
  const { parameters, logits } = trace(create(options));
  const data = randomParameters(parameters, seed, 1);
  const changed = tokens.slice();
  changed[at] = (changed[at]! + 3) % vocabSize;
  const [a, b] = await Promise.all(
    [tokens, changed].map(async (some) => {
      const { logits: flat } = await run({ logits }, [...data, ['tokens', some]]);
      return matrix(flat, vocabSize);
    }),
  );
  return a!.flatMap((row, i): [number, number][] =>
    distance(row, b![i]!) > 1e-10 ? [[Math.floor(i / time), i % time]] : [],
  );
}

describe('what a token can reach', () => {
  const capacity = { kind: 'capacity', capacityFactor: 0.6, evalCapacityFactor: 0.6, minimumCapacity: 1 };
  const everywhere = { every: 1, numExperts: 3 };

  test.each([
    ['dense, rotary', {}],
    ['dense, learned', { positions: 'learned' }],
    ['dense, relative', { positions: 'relative' }],
    ['dense, Transformer-XL', { positions: 'transformerXL', norm: 'layer' }],
    ['dense, span, double post-norm', { positions: 'span', memoryLength: 5, blockNorm: 'postDouble' }],
    ['sparse, dropless, top-2', { sparse: { ...everywhere, topK: 2 } }],
    // Places go to earlier tokens first, so top-1 routing keeps the order of time within a sequence.
    [
      'sparse, capacity per sequence, top-1',
      { sparse: { ...everywhere, dispatch: { ...capacity, group: 'sequence' } } },
    ],
  ] as [string, Input][])('only itself and later positions of its own sequence: %s', async (_, options) => {
    const reached = await reach(options, 3, 1);
    expect(reached).toContainEqual([0, 3]);
    expect(reached.length).toBeGreaterThan(1);
    for (const [sequence, position] of reached) {
      expect(sequence).toBe(0);
      expect(position).toBeGreaterThanOrEqual(3);
    }
    expect((await reach(options, time + 5, 1)).every(([s, t]) => s === 1 && t >= 5)).toBe(true);
  });

  test('places shared by the batch: a token takes them from later sequences, never from earlier tokens', async () => {
    const options = { sparse: { ...everywhere, dispatch: capacity } };
    const reached = (await Promise.all([1, 2, 3, 4].map((seed) => reach(options, 3, seed)))).flat();
    expect(reached.filter(([sequence, position]) => sequence === 0 && position < 3)).toEqual([]);
    expect(reached.some(([sequence]) => sequence === 1)).toBe(true);
  });

  test('second choices queue behind all first choices: capacity with top-2 looks ahead', async () => {
    // Known price of this priority (Switch and GShard share it): not a promise, so that nobody relies on it unaware.
    const options = { sparse: { ...everywhere, topK: 2, dispatch: { ...capacity, group: 'sequence' } } };
    const reached = (await Promise.all([1, 2, 3, 4].map((seed) => reach(options, 3, seed)))).flat();
    expect(reached.some(([, position]) => position < 3)).toBe(true);
    expect(reached.every(([sequence]) => sequence === 0)).toBe(true);
  });

  test('padding reaches nothing', async () => {
    for (const options of [
      {},
      { sparse: { ...everywhere, topK: 2 } },
      { sparse: { ...everywhere, dispatch: capacity } },
    ]) {
      const { parameters, logits, loss } = trace(create(options), { masked: true });
      const data = randomParameters(parameters, 1);
      // After the first sequence, before and inside the second: causality alone would hide only the former.
      const mask = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1];
      const other = tokens.map((id, at) => (mask[at] === 1 ? id : (id + 1) % vocabSize));
      const feeds = [...data, ['mask', mask], ['targets', targets]] as const;
      const a = await run({ logits, loss }, [...feeds, ['tokens', tokens]]);
      const b = await run({ logits, loss }, [...feeds, ['tokens', other]]);
      const real = (flat: readonly number[]): number[] =>
        matrix(flat, vocabSize).flatMap((row, i) => (mask[i] === 1 ? row : []));
      expect(distance(real(b.logits), real(a.logits))).toBeLessThan(1e-12);
      expect(distance(b.loss, a.loss)).toBeLessThan(1e-12);
    }
  });
});

describe('structure', () => {
  test('parameter names are part of the format of checkpoints', () => {
    const names = (options: Input): string[] => [...create(options).parameters().keys()];
    expect(names({ numKeyValueHeads: 2, sparse })).toEqual([
      'embedding.weight',
      'blocks.0.attentionNorm.weight',
      'blocks.0.attention.query.weight',
      'blocks.0.attention.key.weight',
      'blocks.0.attention.value.weight',
      'blocks.0.attention.output.weight',
      'blocks.0.feedForwardNorm.weight',
      'blocks.0.feedForward.up.weight',
      'blocks.0.feedForward.down.weight',
      'blocks.1.attentionNorm.weight',
      'blocks.1.attention.query.weight',
      'blocks.1.attention.key.weight',
      'blocks.1.attention.value.weight',
      'blocks.1.attention.output.weight',
      'blocks.1.feedForwardNorm.weight',
      'blocks.1.feedForward.router.classifier.weight',
      'blocks.1.feedForward.experts.up',
      'blocks.1.feedForward.experts.down',
      'norm.weight',
    ]);
    expect(
      names({ numLayers: 1, positions: 'learned', norm: 'layer', bias: true, tieEmbeddings: false }),
    ).toEqual([
      'embedding.weight',
      'position.weight',
      'blocks.0.attentionNorm.weight',
      'blocks.0.attentionNorm.bias',
      ...['query', 'key', 'value', 'output'].flatMap((name) => [
        `blocks.0.attention.${name}.weight`,
        `blocks.0.attention.${name}.bias`,
      ]),
      'blocks.0.feedForwardNorm.weight',
      'blocks.0.feedForwardNorm.bias',
      'blocks.0.feedForward.up.weight',
      'blocks.0.feedForward.up.bias',
      'blocks.0.feedForward.down.weight',
      'blocks.0.feedForward.down.bias',
      'norm.weight',
      'norm.bias',
      'head.weight',
    ]);
  });

  test('parameter shapes', () => {
    const parameters = create({ numKeyValueHeads: 2, positions: 'relative', sparse }).parameters();
    const shapes = Object.fromEntries([...parameters].map(([name, { shape }]) => [name, shape]));
    expect(shapes).toMatchObject({
      'embedding.weight': [11, 8],
      'position.weight': [32, 4],
      'blocks.0.attention.query.weight': [8, 8],
      'blocks.0.attention.key.weight': [4, 8],
      'blocks.0.feedForward.up.weight': [12, 8],
      'blocks.1.feedForward.router.classifier.weight': [4, 8],
      'blocks.1.feedForward.experts.up': [4, 8, 12],
      'blocks.1.feedForward.experts.down': [4, 12, 8],
    });
  });

  test.each([
    [1, [0, 1, 2, 3]],
    [2, [1, 3]],
    [3, [2]],
    [4, [3]],
  ])('every %i makes blocks %j sparse, each with record and losses', (every, expected) => {
    const { records, losses } = trace(create({ numLayers: 4, sparse: { ...sparse, every } }));
    expect(records.map(({ layerIndex }) => layerIndex)).toEqual(expected);
    expect(losses.map(({ layerIndex, name }) => `${name} ${layerIndex}`)).toEqual(
      expected.flatMap((layer) => [`balance ${layer}`, `z ${layer}`]),
    );
  });

  test('a feed-forward layer is told where it stands', () => {
    const model = create({ numLayers: 3, sparse: { ...sparse, every: 1 } });
    const seen: FeedForwardContext[] = [];
    for (const { feedForward } of model.blocks) {
      const forward = feedForward.forward.bind(feedForward);
      feedForward.forward = (hidden, context) => {
        seen.push(context);
        return forward(hidden, context);
      };
    }
    nameParameters(model);
    const languages = input('languages', 'int32', [batch, time]);
    const { records } = model.forward(
      { tokens: input('tokens', 'int32', [batch, time]), languages },
      evaluationContext(),
    );
    expect(seen.map(({ layerIndex, site, batchSize }) => [layerIndex, site, batchSize])).toEqual(
      [0, 1, 2].map((layer) => [layer, `blocks.${layer}.feedForward`, 2]),
    );
    expect(seen.map(({ previousRecord }) => previousRecord)).toEqual([undefined, records[0], records[1]]);
    for (const { tokenIds, languageIds, tokenMask } of seen) {
      expect([String(tokenIds), String(languageIds), tokenMask]).toEqual([
        'int32[14]',
        'int32[14]',
        undefined,
      ]);
    }
  });

  test('noise: every site once, none in evaluation', () => {
    const options = {
      dropout: 0.1,
      attentionDropout: 0.1,
      sparse: { ...sparse, router: { kind: 'softmax', jitter: 0.1 } },
    };
    expect([...trace(create(options), { training: true }).context.noise.feeds.keys()]).toEqual([
      'noise.embedding',
      'noise.blocks.0.attention.probabilities.0',
      'noise.blocks.0.attentionOutput',
      'noise.blocks.0.feedForward.activation',
      'noise.blocks.0.feedForwardOutput',
      'noise.blocks.1.attention.probabilities.0',
      'noise.blocks.1.attentionOutput',
      'noise.blocks.1.feedForward.router',
      'noise.blocks.1.feedForwardOutput',
    ]);
    expect(trace(create(options)).context.noise.feeds.size).toBe(0);
  });

  test('outputs are started smaller by depth where the recipe says so', () => {
    const spread = (scaleOutputsByDepth: boolean, name: string): number => {
      const initialization = { kind: 'normal', standardDeviation: 0.1, scaleOutputsByDepth };
      const parameters = create({
        hiddenSize: 32,
        intermediateSize: 64,
        numLayers: 8,
        initialization,
      }).parameters();
      const view = ParameterArena.allocate(parameters).initialize(parameters, 1).views.get(name)!;
      return Math.sqrt(view.reduce((a, b) => a + b * b, 0) / view.length);
    };
    for (const name of ['blocks.0.attention.output.weight', 'blocks.0.feedForward.down.weight']) {
      // Both draw the same numbers: the ratio is exact.
      expect(spread(false, name) / spread(true, name)).toBeCloseTo(4, 5);
    }
    expect(spread(true, 'blocks.0.feedForward.up.weight')).toBeCloseTo(0.1, 2);
  });

  test('the options of σ-MoE’s dense model: biases and spreads', () => {
    const options = {
      hiddenSize: 32,
      intermediateSize: 64,
      numLayers: 8,
      feedForwardBias: true,
      tieEmbeddings: false,
      outputBias: true,
      initialization: { kind: 'depthScaled', embedding: 'xavier', head: 'uniform' },
    };
    const parameters = create(options).parameters();
    const biases = [...parameters.keys()].filter((name) => name.endsWith('bias'));
    expect(biases).toEqual([
      ...Array.from({ length: 8 }, (_, i) => [
        `blocks.${i}.feedForward.up.bias`,
        `blocks.${i}.feedForward.down.bias`,
      ]).flat(),
      'head.bias',
    ]);
    const { views } = ParameterArena.allocate(parameters).initialize(parameters, 1);
    const spread = (name: string): number => {
      const view = views.get(name)!;
      return Math.sqrt(view.reduce((sum, x) => sum + x * x, 0) / view.length);
    };
    expect(spread('blocks.3.feedForward.up.weight')).toBeCloseTo(Math.sqrt(2 / (8 * 32)), 3);
    expect(spread('blocks.3.feedForward.down.weight')).toBeCloseTo(Math.sqrt(2 / (8 * 64)), 3);
    expect(spread('blocks.3.attention.output.weight')).toBeCloseTo(Math.sqrt(2 / (8 * 32)), 3);
    expect(Math.max(...views.get('embedding.weight')!)).toBeLessThanOrEqual(Math.sqrt(6 / (11 + 32)));
    expect(spread('embedding.weight')).toBeCloseTo(Math.sqrt(2 / (11 + 32)), 1);
    for (const name of ['head.weight', 'head.bias']) {
      const largest = Math.max(...views.get(name)!.map(Math.abs)) * Math.sqrt(32);
      expect(largest, name).toBeLessThanOrEqual(1.000001);
      expect(largest, name).toBeGreaterThan(0.7);
    }
    // As the other weights where nothing is said, with a bias of zeros.
    const plain = create({ ...options, initialization: { kind: 'depthScaled' } }).parameters();
    const started = ParameterArena.allocate(plain).initialize(plain, 1).views;
    expect(Math.max(...started.get('head.weight')!) * Math.sqrt(32)).toBeGreaterThan(1);
    expect(started.get('head.bias')!.every((value) => value === 0)).toBe(true);
    expect(
      create({ bias: true, feedForwardBias: false }).parameters().has('blocks.0.feedForward.up.bias'),
    ).toBe(false);
  });

  test('layers with a residual of their own stand in pre-norm blocks only', () => {
    const options = { ...small, blockNorm: 'post', sparse: { kind: 'stratified', strata: [2, 2] } };
    const { error } = languageModelSchema.safeParse(options);
    expect(error?.issues.map(({ path }) => path.join('.'))).toEqual(['blockNorm']);
    const allowed = languageModelSchema.parse({ ...options, blockNorm: 'pre' });
    expect(() => new LanguageModel({ ...allowed, vocabSize })).not.toThrow();
    expect(() => new LanguageModel({ ...allowed, blockNorm: 'postDouble', vocabSize })).toThrow(
      'layer 0 has its own norm and residual: blockNorm must be pre, not postDouble',
    );
  });

  test('more tokens than the context are refused', () => {
    const model = create({ contextLength: 6 });
    nameParameters(model);
    const tokens = input('tokens', 'int32', [1, 7]);
    expect(() => model.forward({ tokens }, evaluationContext())).toThrow(
      '7 tokens do not fit contextLength 6',
    );
  });

  test('the auxiliary loss is the sum over layers of coefficient times value', async () => {
    const value = (name: string) => input(name, 'float64', []);
    const total = totalAuxiliaryLoss([
      { name: 'balance', coefficient: 0.5, value: value('a') },
      { name: 'z', coefficient: 0, value: value('unused') },
      { name: 'balance', coefficient: 2, value: value('b') },
    ]);
    const { sum } = await run({ sum: total! }, [
      ['a', [3]],
      ['b', [10]],
    ]);
    expect(sum).toEqual([21.5]);
    expect(totalAuxiliaryLoss([{ name: 'z', coefficient: 0, value: value('a') }])).toBeUndefined();
    expect(totalAuxiliaryLoss([])).toBeUndefined();
  });
});
