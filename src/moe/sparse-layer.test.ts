import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { randomCases } from '../../test/support/random-cases.js';
import { referenceGradients } from '../../test/support/reference-moe-gradients.js';
import { matrix, referenceLayer, type ReferenceOptions } from '../../test/support/reference-moe.js';
import { add, gradients, input, multiply, sum, type DType } from '../graph/index.js';
import { nameParameters, normal } from '../nn/index.js';
import { CapacityDispatch, expertCapacity, type CapacityOptions } from './dispatch/capacity.js';
import { DroplessDispatch } from './dispatch/dropless.js';
import { FeedForwardBank } from './experts/feed-forward-bank.js';
import { SoftmaxTopKRouter } from './routers/softmax-top-k.js';
import { SparseLayer } from './sparse-layer.js';
import type { ActivationName } from './activations.js';

interface Case {
  readonly tokens: number;
  readonly batchSize?: number;
  readonly numExperts: number;
  readonly topK: number;
  readonly activation?: ActivationName;
  readonly bias?: boolean;
  readonly normalizeGates?: boolean;
  readonly jitter?: number;
  readonly group?: 'batch' | 'sequence';
  readonly capacity?: CapacityOptions;
  readonly mask?: readonly number[];
  readonly seed?: number;
  /** Changes the drawn parameters, such as to tie experts. */
  readonly adjust?: (parameters: Map<string, Float64Array>) => void;
}

const hiddenSize = 4;
const intermediateSize = 6;
const weights = { balance: 0.3, z: 0.2 };

/** Output, losses, record and every gradient of the layer, from the graph and from the loops. */
async function both(options: Case, dtype: DType = 'float64') {
  const { tokens, batchSize = 1, numExperts, topK, activation = 'relu', seed = 5 } = options;
  const layer = new SparseLayer({
    router: new SoftmaxTopKRouter(
      {
        hiddenSize,
        numExperts,
        topK,
        balanceCoefficient: weights.balance,
        zLossCoefficient: weights.z,
        normalizeGates: options.normalizeGates ?? false,
        jitter: options.jitter ?? 0,
        group: options.group ?? 'batch',
      },
      normal(1),
    ),
    dispatch: options.capacity ? new CapacityDispatch(options.capacity) : new DroplessDispatch(),
    experts: new FeedForwardBank(
      { numExperts, hiddenSize, intermediateSize, activation, bias: options.bias ?? false },
      normal(1),
      normal(1),
    ),
  });
  const parameters = nameParameters(layer, dtype);
  const data = randomParameters(parameters, seed, 1);
  options.adjust?.(data);

  const hidden = input('hidden', dtype, [tokens, hiddenSize]);
  const outputWeights = input('outputWeights', dtype, [tokens, hiddenSize]);
  const tokenMask = options.mask && input('mask', dtype, [tokens]);
  const context = layerContext({ training: true, batchSize, tokenMask });
  const { output, records, losses } = layer.forward(hidden, context);
  const [balance, z] = losses.map(({ value }) => value);
  const terms = losses.map(({ coefficient, value }) => multiply(value, coefficient));
  const loss = terms.reduce(add, sum(multiply(output, outputWeights)));
  const names = ['hidden', ...parameters.keys()];
  const sources = [hidden, ...[...parameters.values()].map(({ tensor }) => tensor)];
  const derived = gradients(loss, sources);

  const flat = randomNumbers(seed + 1, tokens * hiddenSize);
  const arriving = randomNumbers(seed + 2, tokens * hiddenSize);
  const noise = randomNumbers(seed + 3, tokens * hiddenSize, 0, 1);
  const actual = await run(
    {
      output,
      balance: balance,
      z: z,
      experts: records[0].experts,
      gates: records[0].gates,
      load: records[0].load,
      dropped: records[0].dropped,
      ...Object.fromEntries(derived.map((gradient, i) => [`gradient of ${names[i]}`, gradient])),
    },
    [
      ...data,
      ['hidden', flat],
      ['outputWeights', arriving],
      ['mask', [...(options.mask ?? [])]],
      ['noise.layer.router', noise],
    ],
    dtype,
  );

  const { capacity } = options;
  const groups = capacity?.group === 'sequence' ? batchSize : 1;
  const reference: ReferenceOptions = {
    ...options,
    activation,
    hiddenSize,
    intermediateSize,
    balanceGroups: options.group === 'sequence' ? batchSize : 1,
    dispatchGroups: groups,
    capacity: capacity
      ? expertCapacity(
          tokens / groups,
          topK,
          numExperts,
          capacity.capacityFactor,
          capacity.minimumCapacity ?? 4,
        )
      : Infinity,
  };
  const { jitter = 0 } = options;
  const inputs = {
    hidden: matrix(flat, hiddenSize),
    parameters: data,
    mask: options.mask,
    jitter: matrix(
      noise.map((u) => 1 - jitter + 2 * jitter * u),
      hiddenSize,
    ),
  };
  const expected = referenceLayer(reference, inputs);
  const expectedGradients = referenceGradients(reference, inputs, {
    outputWeights: matrix(arriving, hiddenSize),
    ...weights,
  });
  return { actual: actual as Record<string, number[]>, expected, expectedGradients };
}

async function expectAgreement(options: Case, dtype: DType = 'float64'): Promise<void> {
  const tolerance = dtype === 'float64' ? 1e-9 : 2e-5;
  const { actual, expected, expectedGradients } = await both(options, dtype);
  const real = options.mask ?? new Array<number>(options.tokens).fill(1);
  expect(actual['experts']).toEqual(expected.experts.flatMap((row, t) => row.map((e) => (real[t] ? e : -1))));
  expect(actual['load']).toEqual(expected.load);
  expect(actual['dropped']).toEqual([expected.dropped]);
  expect(distance(actual['gates'], expected.gates.flat()), 'gates').toBeLessThan(tolerance);
  expect(distance(actual['output'], expected.output.flat()), 'output').toBeLessThan(tolerance);
  expect(distance(actual['balance'], [expected.balance]), 'balance').toBeLessThan(tolerance);
  expect(distance(actual['z'], [expected.z]), 'z').toBeLessThan(tolerance);
  for (const [name, gradient] of expectedGradients) {
    expect(distance(actual[`gradient of ${name}`], gradient), `gradient of ${name}`).toBeLessThan(tolerance);
  }
}

const padding = [1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1];
const tight: CapacityOptions = { capacityFactor: 0.75, minimumCapacity: 1 };
/** Experts 1 and 2 get the same scores everywhere: the lower index must win. */
const tie = (parameters: Map<string, Float64Array>): void => {
  const router = parameters.get('router.classifier.weight')!;
  router.copyWithin(2 * hiddenSize, hiddenSize, 2 * hiddenSize);
};
/** Expert 0 is never among the best two: its scores are far below those of all others. */
const starve = (parameters: Map<string, Float64Array>): void => {
  const router = parameters.get('router.classifier.weight')!;
  const experts = router.length / hiddenSize;
  for (let i = 0; i < hiddenSize; i++) {
    for (let expert = 1; expert < experts; expert++)
      router[expert * hiddenSize + i] = router[hiddenSize + i]!;
    router[i] = router[hiddenSize + i]!;
  }
};

const cases: readonly (readonly [string, Case])[] = [
  ['dropless, top-1', { tokens: 12, numExperts: 4, topK: 1 }],
  ['dropless, top-2, swiglu', { tokens: 12, numExperts: 4, topK: 2, activation: 'swiglu' }],
  [
    'dropless, padding, biases',
    { tokens: 12, numExperts: 4, topK: 2, mask: padding, bias: true, activation: 'gelu' },
  ],
  ['dropless, ties', { tokens: 12, numExperts: 4, topK: 2, adjust: tie }],
  [
    'dropless, all scores equal: most experts are empty',
    { tokens: 12, numExperts: 5, topK: 2, bias: true, adjust: starve },
  ],
  ['dropless, jitter', { tokens: 12, numExperts: 3, topK: 1, jitter: 0.1 }],
  ['dropless, normalised gates', { tokens: 12, numExperts: 4, topK: 2, normalizeGates: true }],
  [
    'dropless, balance per sequence, one of them empty',
    {
      tokens: 12,
      batchSize: 3,
      numExperts: 4,
      topK: 1,
      group: 'sequence',
      mask: [1, 1, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0],
    },
  ],
  ['dropless, more experts than tokens', { tokens: 3, numExperts: 8, topK: 2 }],
  ['capacity, top-1, drops', { tokens: 12, numExperts: 4, topK: 1, capacity: tight }],
  [
    'capacity, top-2, drops, biases',
    { tokens: 12, numExperts: 4, topK: 2, capacity: tight, bias: true, activation: 'silu' },
  ],
  [
    'capacity, padding',
    { tokens: 12, numExperts: 4, topK: 2, capacity: tight, mask: padding, activation: 'geglu', bias: true },
  ],
  [
    'capacity, per sequence',
    { tokens: 12, batchSize: 3, numExperts: 3, topK: 2, capacity: { ...tight, group: 'sequence' } },
  ],
  [
    'capacity, per sequence, padding',
    {
      tokens: 12,
      batchSize: 2,
      numExperts: 3,
      topK: 1,
      capacity: { ...tight, group: 'sequence' },
      mask: padding,
    },
  ],
  ['capacity, ties', { tokens: 12, numExperts: 4, topK: 2, capacity: tight, adjust: tie }],
  [
    'capacity, all scores equal: all to the same experts',
    { tokens: 12, numExperts: 5, topK: 2, capacity: tight, bias: true, adjust: starve },
  ],
  [
    'capacity, normalised gates, jitter',
    { tokens: 12, numExperts: 4, topK: 2, capacity: tight, normalizeGates: true, jitter: 0.05 },
  ],
];

describe('a sparse layer equals its plain-loop reference: output, losses, record, every gradient', () => {
  test.each(cases)('%s', async (_, options) => expectAgreement(options));

  test.each(cases.filter(([name]) => /biases|drops$|swiglu/.test(name)))(
    'in float32: %s',
    async (_, options) => expectAgreement(options, 'float32'),
  );

  test('the cases contain drops, empty experts and ties', async () => {
    const byName = new Map(cases);
    const dropping = await both(byName.get('capacity, top-2, drops, biases')!);
    expect(dropping.expected.dropped).toBeGreaterThan(0);
    const starved = await both(byName.get('dropless, all scores equal: most experts are empty')!);
    expect(starved.expected.load).toEqual([12, 12, 0, 0, 0]);
    const crowded = await both(byName.get('capacity, all scores equal: all to the same experts')!);
    expect(crowded.expected.dropped).toBe(24 - 2 * 3);
  });

  test('sizes drawn at random', async () => {
    const shape = fc.record({
      perSequence: fc.integer({ min: 1, max: 7 }),
      batchSize: fc.integer({ min: 1, max: 3 }),
      numExperts: fc.integer({ min: 1, max: 6 }),
      wantedTopK: fc.integer({ min: 1, max: 3 }),
      activation: fc.constantFrom<ActivationName>('relu', 'silu', 'swiglu', 'geluTanh'),
      bias: fc.boolean(),
      normalizeGates: fc.boolean(),
      group: fc.constantFrom('batch' as const, 'sequence' as const),
      dispatch: fc.constantFrom(undefined, 'batch' as const, 'sequence' as const),
      capacityFactor: fc.double({ min: 0.2, max: 2, noNaN: true }),
      minimumCapacity: fc.integer({ min: 1, max: 4 }),
      padded: fc.boolean(),
      seed: fc.integer({ min: 1, max: 1_000_000 }),
    });
    await fc.assert(
      fc.asyncProperty(shape, async ({ perSequence, wantedTopK, dispatch, padded, ...rest }) => {
        const tokens = perSequence * rest.batchSize;
        const drawn = randomNumbers(rest.seed + 17, tokens, 0, 1);
        await expectAgreement({
          ...rest,
          tokens,
          topK: Math.min(wantedTopK, rest.numExperts),
          ...(padded ? { mask: Array.from(drawn, (u) => Number(u > 0.3)) } : {}),
          ...(dispatch
            ? {
                capacity: {
                  capacityFactor: rest.capacityFactor,
                  minimumCapacity: rest.minimumCapacity,
                  group: dispatch,
                },
              }
            : {}),
        });
      }),
      randomCases(60),
    );
  });
});
