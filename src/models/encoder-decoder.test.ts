import { describe, expect, test } from 'vitest';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run, type Feeds } from '../../test/support/numbers.js';
import { matrix } from '../../test/support/reference-moe.js';
import { add, input, reshape, type DType, type Tensor } from '../graph/index.js';
import {
  crossEntropy,
  evaluationContext,
  maskedMean,
  nameParameters,
  RandomStream,
  streamKey,
  trainingContext,
} from '../nn/index.js';
import { EncoderDecoder } from './encoder-decoder.js';
import { encoderDecoderSchema } from './encoder-decoder-options.js';
import { totalAuxiliaryLoss } from './language-model.js';

const vocabSize = 11;
const [batch, sourceTime, targetTime] = [2, 5, 4];
const small = {
  kind: 'encoderDecoder',
  hiddenSize: 8,
  numEncoderLayers: 2,
  numDecoderLayers: 2,
  numHeads: 2,
  headSize: 3,
  intermediateSize: 12,
  contextLength: 6,
} as const;
const t5 = { attentionScale: 1, scaleLogits: true, finalDropout: true };
const fairseq = {
  positions: 'sinusoidal',
  norm: 'layer',
  bias: true,
  scaleEmbeddings: true,
  activationDropout: 0,
} as const;
const sparse = { every: 2, numExperts: 3, router: { kind: 'softmax', zLossCoefficient: 0.01 } };

type Input = Readonly<Record<string, unknown>>;

function create(options: Input = {}): EncoderDecoder {
  return new EncoderDecoder({ ...encoderDecoderSchema.parse({ ...small, ...options }), vocabSize });
}

function trace(model: EncoderDecoder, { training = false, dtype = 'float64' as DType } = {}) {
  const parameters = nameParameters(model, dtype);
  const source = input('source', 'int32', [batch, sourceTime]);
  const target = input('target', 'int32', [batch, targetTime]);
  const sourceMask = input('sourceMask', dtype, [batch, sourceTime]);
  const targetMask = input('targetMask', dtype, [batch, targetTime]);
  const labels = input('labels', 'int32', [batch * targetTime]);
  const context = training ? trainingContext() : evaluationContext();
  const output = model.forward({ source, sourceMask, target, targetMask }, context);
  const task = maskedMean(crossEntropy(output.logits, labels), reshape(targetMask, [batch * targetTime]));
  const auxiliary = totalAuxiliaryLoss(output.losses);
  return { ...output, parameters, context, loss: auxiliary ? add(task, auxiliary) : task };
}

const random = new RandomStream(streamKey(4));
const ids = (count: number): Int32Array =>
  Int32Array.from({ length: count }, () => random.integer(vocabSize));
const source = ids(batch * sourceTime);
const target = ids(batch * targetTime);
const labels = ids(batch * targetTime);
// The second pair is shorter on both sides.
const sourceMask = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0];
const targetMask = [1, 1, 1, 1, 1, 1, 1, 0];
const data: Feeds = [
  ['source', source],
  ['target', target],
  ['labels', labels],
  ['sourceMask', sourceMask],
  ['targetMask', targetMask],
];

const typedData = (): (readonly [string, Float64Array | Int32Array])[] =>
  [...data].map(([name, numbers]) => [
    name,
    numbers instanceof Int32Array ? numbers : Float64Array.from(numbers as number[]),
  ]);

const gradientCases: readonly (readonly [string, Input, boolean])[] = [
  ['T5, dense', t5, false],
  ['T5, Switch in every second block', { ...t5, sparse }, false],
  ['T5 while it trains', { ...t5, dropout: 0.2, attentionDropout: 0.1, activation: 'geglu' }, true],
  ['fairseq, sparse, dropout', { ...fairseq, dropout: 0.2, sparse: { ...sparse, topK: 2 } }, true],
  [
    'learned positions, output of its own',
    { positions: 'learned', tieEmbeddings: false, norm: 'layer' },
    false,
  ],
];

test.each(gradientCases)('gradients equal finite differences: %s', async (_, options, training) => {
  const { parameters, loss, context } = trace(create(options), { training });
  const noise = Object.fromEntries(
    [...context.noise.feeds].map(([name, { shape }]) => [
      name,
      new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
    ]),
  );
  context.noise.fill(1, 2, noise);
  const error = await leafGradientError(
    loss,
    new Map([...parameters].map(([name, { tensor }]) => [name, tensor])),
    new Map<string, Float64Array | Int32Array>([
      ...randomParameters(parameters, 3),
      ...typedData(),
      ...Object.entries(noise),
    ]),
    { samples: 4, seed: 5 },
  );
  expect(error).toBeLessThan(1e-7);
});

describe('every kind of sparse layer stands in both stacks', () => {
  const layers: [string, Input][] = [
    ['stratified', { kind: 'stratified', strata: [2, 3] }],
    ['top-K activation', { kind: 'topKActivation', topK: 4 }],
    ['product keys', { kind: 'productKey', heads: 2, subKeys: 3, topK: 2 }],
    ...[
      { kind: 'sigmoid', entropyCoefficient: 0.1 },
      { kind: 'adaptiveClustering', preset: 'paper' },
      { kind: 'biasBalanced' },
    ].map((router): [string, Input] => [router.kind, { numExperts: 3, topK: 2, router }]),
    ['one router a stack', { numExperts: 3, topK: 2, routerSharing: {} }],
  ];

  test.each(layers)('%s: gradients, and padding that reaches nothing', async (name, layer) => {
    const options = { ...t5, sparse: { every: 1, ...layer } };
    const { parameters, loss } = trace(create(options));
    const trainable = [...parameters].filter(([, parameter]) => parameter.trainable);
    const feeds = new Map<string, Float64Array | Int32Array>([
      ...randomParameters(parameters, 3),
      ...typedData(),
    ]);
    const error = await leafGradientError(
      loss,
      new Map(trainable.map(([name, { tensor }]) => [name, tensor])),
      feeds,
      { samples: 2, seed: 5 },
    );
    // Clusters are measured without a gradient, which finite differences do not know.
    if (name !== 'adaptiveClustering') expect(error).toBeLessThan(1e-6);
    expect(await reach(options, 'source', sourceTime + 3)).toEqual([]);
    expect(await reach(options, 'target', targetTime + 3)).toEqual(['1,3']);
  });
});

test.each([
  ['T5', { ...t5, sparse }],
  ['fairseq', { ...fairseq, sparse }],
])('float32 agrees with float64: %s', async (_, options) => {
  const [single, double] = await Promise.all(
    (['float32', 'float64'] as const).map(async (dtype) => {
      const { parameters, logits, loss } = trace(create(options), { dtype });
      return run({ logits, loss }, [...randomParameters(parameters, 3), ...data], dtype);
    }),
  );
  expect(distance(single!.logits, double!.logits)).toBeLessThan(1e-5);
  expect(distance(single!.loss, double!.loss)).toBeLessThan(1e-5);
});

/** Rows of the logits, `[sequence, position]`, that change with one token of one side. */
async function reach(options: Input, side: 'source' | 'target', at: number): Promise<string[]> {
  const { parameters, logits } = trace(create(options));
  const weights = randomParameters(parameters, 7, 1);
  const changed = (side === 'source' ? source : target).slice();
  changed[at] = (changed[at]! + 3) % vocabSize;
  const rows = async (feeds: Feeds) => matrix((await run({ logits }, feeds)).logits, vocabSize);
  const before = await rows([...weights, ...data]);
  const after = await rows([...weights, ...[...data].filter(([name]) => name !== side), [side, changed]]);
  return before.flatMap((row, i) =>
    distance(after[i]!, row) > 1e-10 ? [`${Math.floor(i / targetTime)},${i % targetTime}`] : [],
  );
}

describe('what a token can reach', () => {
  const models: [string, Input][] = [
    ['T5', t5],
    ['T5 with experts', { ...t5, sparse: { ...sparse, every: 1, topK: 2 } }],
    ['fairseq', fairseq],
    ['learned positions', { positions: 'learned' }],
    ['no positions', { positions: 'none' }],
  ];

  test.each(models)('%s: a target token reaches itself and later ones of its pair', async (_, options) => {
    expect(await reach(options, 'target', 1)).toEqual(['0,1', '0,2', '0,3']);
    expect(await reach(options, 'target', targetTime + 2)).toEqual(['1,2', '1,3']);
  });

  test.each(models)('%s: a source token reaches every target token of its pair', async (_, options) => {
    expect(await reach(options, 'source', 4)).toEqual(['0,0', '0,1', '0,2', '0,3']);
    expect(await reach(options, 'source', sourceTime)).toEqual(['1,0', '1,1', '1,2', '1,3']);
  });

  test.each(models)('%s: padding reaches nothing', async (_, options) => {
    expect(await reach(options, 'source', sourceTime + 3)).toEqual([]);
    // Only the row of the padding itself, which nobody reads.
    expect(await reach(options, 'target', targetTime + 3)).toEqual(['1,3']);
  });

  test('nor does it enter losses, capacity or loads', async () => {
    const options = {
      ...t5,
      sparse: { ...sparse, every: 1, dispatch: { kind: 'capacity', capacityFactor: 1, minimumCapacity: 1 } },
    };
    const { parameters, loss, records } = trace(create(options));
    const loads: Record<string, Tensor> = Object.fromEntries(
      records.map(({ load }, i) => [`load${i}`, load]),
    );
    const weights = randomParameters(parameters, 7, 1);
    const other = (ids: Int32Array, mask: readonly number[]): Int32Array =>
      ids.map((id, at) => (mask[at] === 1 ? id : (id + 1) % vocabSize));
    const masks: Feeds = [...data].filter(([name]) => name.endsWith('Mask') || name === 'labels');
    const a = await run<string>({ loss, ...loads }, [...weights, ...data]);
    const b = await run<string>({ loss, ...loads }, [
      ...weights,
      ...masks,
      ['source', other(source, sourceMask)],
      ['target', other(target, targetMask)],
    ]);
    expect(distance(b['loss']!, a['loss']!)).toBeLessThan(1e-12);
    records.forEach((_, i) => expect(b[`load${i}`]).toEqual(a[`load${i}`]));
    const total = (i: number): number => a[`load${i}`]!.reduce((sum, n) => sum + n, 0);
    expect(records.map((_, i) => total(i))).toEqual([8, 8, 7, 7]);
  });
});

describe('structure', () => {
  test('parameter names are part of the format of checkpoints', () => {
    const block = (side: string, index: number, feedForward: readonly string[]): string[] => [
      `${side}.blocks.${index}.selfAttentionNorm.weight`,
      ...attention(`${side}.blocks.${index}.selfAttention`),
      ...(side === 'decoder'
        ? [
            `${side}.blocks.${index}.crossAttentionNorm.weight`,
            ...attention(`${side}.blocks.${index}.crossAttention`),
          ]
        : []),
      `${side}.blocks.${index}.feedForwardNorm.weight`,
      ...feedForward.map((name) => `${side}.blocks.${index}.feedForward.${name}`),
    ];
    const attention = (path: string): string[] =>
      ['query', 'key', 'value', 'output'].map((name) => `${path}.${name}.weight`);
    const dense = ['up.weight', 'down.weight'];
    const experts = ['router.classifier.weight', 'experts.up', 'experts.down'];
    expect([
      ...create({ ...t5, sparse })
        .parameters()
        .keys(),
    ]).toEqual([
      'embedding.weight',
      ...['encoder', 'decoder'].flatMap((side) => [
        `${side}.position.weight`,
        ...block(side, 0, dense),
        ...block(side, 1, experts),
        `${side}.norm.weight`,
      ]),
    ]);
    const more = [
      ...create({ ...fairseq, tieEmbeddings: false })
        .parameters()
        .keys(),
    ];
    expect(more).toEqual(
      expect.arrayContaining([
        'head.weight',
        'encoder.norm.bias',
        'decoder.blocks.1.crossAttention.output.bias',
        'decoder.blocks.1.feedForward.down.bias',
      ]),
    );
    expect(more.some((name) => name.includes('position'))).toBe(false);
  });

  test('one table of relative positions a stack; heads need not fill the hidden size', () => {
    const parameters = create(t5).parameters();
    const shape = (name: string) => parameters.get(name)!.shape;
    expect(shape('encoder.position.weight')).toEqual([32, 2]);
    expect(shape('decoder.position.weight')).toEqual([32, 2]);
    expect(shape('encoder.blocks.0.selfAttention.query.weight')).toEqual([6, 8]);
    const relative = { numBuckets: 7, maxDistance: 20 };
    expect(
      create({ ...t5, relative })
        .parameters()
        .get('decoder.position.weight')!.shape,
    ).toEqual([7, 2]);
    expect(shape('decoder.blocks.1.crossAttention.output.weight')).toEqual([8, 6]);
  });

  test('layers know their stack, reports count through both; a decision is not read across them', () => {
    const model = create({ numEncoderLayers: 4, sparse });
    const seen: [number, string, number | undefined, boolean][] = [];
    for (const { feedForward } of [...model.encoder.blocks, ...model.decoder.blocks]) {
      const forward = feedForward.forward.bind(feedForward);
      feedForward.forward = (hidden, context) => {
        const { layerIndex, site, previousRecord, causal } = context;
        seen.push([layerIndex, site, previousRecord?.layerIndex, causal]);
        return forward(hidden, context);
      };
    }
    const { records, losses } = trace(model);
    expect(seen).toEqual([
      [0, 'encoder.blocks.0.feedForward', undefined, false],
      [1, 'encoder.blocks.1.feedForward', undefined, false],
      [2, 'encoder.blocks.2.feedForward', 1, false],
      [3, 'encoder.blocks.3.feedForward', 1, false],
      [0, 'decoder.blocks.0.feedForward', undefined, true],
      [1, 'decoder.blocks.1.feedForward', undefined, true],
    ]);
    expect(records.map(({ name, layerIndex }) => [name, layerIndex])).toEqual([
      ['encoder.1', 1],
      ['encoder.3', 3],
      ['decoder.1', 5],
    ]);
    expect(losses.map(({ name, layerIndex }) => `${name} ${layerIndex}`)).toEqual(
      [1, 3, 5].flatMap((layer) => [`balance ${layer}`, `z ${layer}`]),
    );
  });

  test('a router is shared within a stack, not between encoder and decoder', () => {
    const names = [
      ...create({ sparse: { ...sparse, every: 1, routerSharing: {} } })
        .parameters()
        .keys(),
    ];
    expect(names.filter((name) => name.includes('.router.'))).toEqual([
      'encoder.blocks.0.feedForward.router.classifier.weight',
      'decoder.blocks.0.feedForward.router.classifier.weight',
    ]);
  });

  test('noise: every site once, dropout behind the last norms where asked for, none in evaluation', () => {
    const options = { numEncoderLayers: 1, numDecoderLayers: 1, dropout: 0.1, attentionDropout: 0.1 };
    const sites = (more: Input): string[] => [
      ...trace(create({ ...options, ...more }), { training: true }).context.noise.feeds.keys(),
    ];
    const expected = [
      'encoder.embedding',
      'encoder.blocks.0.selfAttention.probabilities.0',
      'encoder.blocks.0.selfAttentionOutput',
      'encoder.blocks.0.feedForward.activation',
      'encoder.blocks.0.feedForwardOutput',
      'encoder.final',
      'decoder.embedding',
      'decoder.blocks.0.selfAttention.probabilities.0',
      'decoder.blocks.0.selfAttentionOutput',
      'decoder.blocks.0.crossAttention.probabilities.0',
      'decoder.blocks.0.crossAttentionOutput',
      'decoder.blocks.0.feedForward.activation',
      'decoder.blocks.0.feedForwardOutput',
      'decoder.final',
    ].map((site) => `noise.${site}`);
    expect(sites({ finalDropout: true })).toEqual(expected);
    expect(sites({ activationDropout: 0 })).toEqual(
      expected.filter((site) => !/final|activation/.test(site)),
    );
    expect(trace(create(options)).context.noise.feeds.size).toBe(0);
  });

  test('the scales multiply what they name', async () => {
    const logitsOf = async (options: Input, change?: (weights: Map<string, Float64Array>) => void) => {
      const { parameters, logits } = trace(create(options));
      const weights = randomParameters(parameters, 3);
      change?.(weights);
      return (await run({ logits }, [...weights, ...data])).logits;
    };
    const plain = await logitsOf({});
    expect(
      distance(
        await logitsOf({ scaleLogits: true }),
        plain.map((x) => x / Math.sqrt(8)),
      ),
    ).toBeLessThan(1e-12);
    const untied = { tieEmbeddings: false };
    const scaled = await logitsOf({ ...untied, scaleEmbeddings: true });
    const larger = await logitsOf(untied, (weights) => {
      const table = weights.get('embedding.weight')!;
      weights.set(
        'embedding.weight',
        table.map((x) => x * Math.sqrt(8)),
      );
    });
    expect(distance(scaled, larger)).toBeLessThan(1e-12);
    const factor = await logitsOf({ attentionScale: 1, positions: 'none' });
    const queries = await logitsOf({ positions: 'none' }, (weights) => {
      for (const [name, numbers] of weights)
        if (name.endsWith('query.weight'))
          weights.set(
            name,
            numbers.map((x) => x * Math.sqrt(3)),
          );
    });
    expect(distance(factor, queries)).toBeLessThan(1e-12);
    expect(distance(factor, await logitsOf({ positions: 'none' }))).toBeGreaterThan(1e-3);
  });

  test('encode: a padded source has the states of the source alone', async () => {
    const model = create({ ...t5, sparse });
    const { parameters } = trace(model);
    const weights = randomParameters(parameters, 1);
    const padded = model.encode(
      {
        source: input('source', 'int32', [batch, sourceTime]),
        sourceMask: input('sourceMask', 'float64', [batch, sourceTime]),
      },
      evaluationContext(),
    );
    const alone = model.encode({ source: input('source', 'int32', [1, 3]) }, evaluationContext());
    expect(alone.records.map(({ layerIndex }) => layerIndex)).toEqual([1]);
    const second = source.slice(sourceTime, sourceTime + 3);
    const [a, b] = [
      await run({ states: padded.states }, [...weights, ...data]),
      await run({ states: alone.states }, [...weights, ['source', second]]),
    ];
    expect(distance(a.states.slice(sourceTime * 8, (sourceTime + 3) * 8), b.states)).toBeLessThan(1e-12);
  });

  test('more tokens than a side takes are refused', () => {
    const model = create({ targetLength: 3 });
    nameParameters(model);
    const tokens = (time: number) => input('tokens', 'int32', [1, time]);
    const forward = (sourceTime: number, targetTime: number) =>
      model.forward({ source: tokens(sourceTime), target: tokens(targetTime) }, evaluationContext());
    expect(() => forward(7, 3)).toThrow('7 tokens do not fit contextLength 6');
    expect(() => forward(6, 4)).toThrow('4 tokens do not fit targetLength 3');
    expect(forward(6, 3).logits.shape).toEqual([3, vocabSize]);
  });
});
