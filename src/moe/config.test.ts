import { describe, expect, test } from 'vitest';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { layerContext, layerSizes } from '../../test/support/moe-context.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { expertWeights, referenceExpert } from '../../test/support/reference-moe.js';
import { input } from '../graph/index.js';
import { nameParameters, NoiseInputs, normal, ParameterArena } from '../nn/index.js';
import { createSparseLayer, sparseSchema } from './config.js';
import { DenseFeedForward } from './dense.js';

const initialization = { kind: 'fanIn', scale: 0.1, standardDeviation: 0.02 } as const;
const sizes = {
  ...layerSizes(16, 32),
  initialization,
  outputInitialization: { ...initialization, scale: 0.025 },
};

describe('options of sparse layers', () => {
  test('the shortest recipe is a Switch layer without dropping', () => {
    expect(sparseSchema.parse({ numExperts: 8 })).toEqual({
      kind: 'experts',
      every: 1,
      numExperts: 8,
      topK: 1,
      routerSharing: null,
      sharedIntermediateSize: null,
      sharedGate: false,
      router: {
        kind: 'softmax',
        normalizeGates: false,
        bias: false,
        jitter: 0,
        logitNoise: 0,
        inputDropout: 0,
        exploration: 'argmax',
        uniformInitialization: false,
        balanceCoefficient: 0.01,
        balanceForm: 'paper',
        zLossCoefficient: 0,
        entropyCoefficient: 0,
        entropyOf: 'all',
        group: 'batch',
      },
      dispatch: { kind: 'dropless' },
      experts: { kind: 'feedForward', expertDropout: 0, initialization: 'model' },
    });
    expect(sparseSchema.parse({ numExperts: 8, dispatch: { kind: 'capacity' } })).toHaveProperty('dispatch', {
      kind: 'capacity',
      capacityFactor: 1.25,
      evalCapacityFactor: 2,
      minimumCapacity: 4,
      group: 'batch',
    });
  });

  test.each([
    ['topK', { numExperts: 2, topK: 3 }, 'topK 3 is more than numExperts 2; choose 1 … 2'],
    ['topK', { numExperts: 2, topK: 0 }, '>=1'],
    ['numExperts', { numExperts: 0 }, '>=1'],
    ['numExperts', { numExperts: 2.5 }, 'int'],
    ['capacityFactor', { numExperts: 2, dispatch: { kind: 'capacity', capacityFactor: 0 } }, '>0'],
    ['capacityFactor', { numExperts: 2, dispatch: { kind: 'capacity', capacityFactor: -1 } }, '>0'],
    ['evalCapacityFactor', { numExperts: 2, dispatch: { kind: 'capacity', evalCapacityFactor: 0 } }, '>0'],
    ['minimumCapacity', { numExperts: 2, dispatch: { kind: 'capacity', minimumCapacity: 0 } }, '>=1'],
    ['jitter', { numExperts: 2, router: { kind: 'softmax', jitter: 1 } }, '<1'],
    ['balanceCoefficient', { numExperts: 2, router: { kind: 'softmax', balanceCoefficient: -1 } }, '>=0'],
    ['expertDropout', { numExperts: 2, experts: { kind: 'feedForward', expertDropout: 1 } }, '<1'],
    ['activation', { numExperts: 2, experts: { kind: 'feedForward', activation: 'mish' } }, '"relu"'],
    ['kind', { numExperts: 2, router: { kind: 'telepathy' } }, 'softmax'],
    ['dispatch', { numExperts: 2, dispatch: { kind: 'dropless', capacityFactor: 1 } }, '"capacityFactor"'],
    ['', { numExperts: 2, top_k: 1 }, '"top_k"'],
  ])('refuses a bad %s: %o', (key, options, message) => {
    const { error } = sparseSchema.safeParse(options);
    expect(error?.issues).toHaveLength(1);
    const [issue] = error!.issues;
    expect(issue.path.at(-1) ?? '').toBe(key);
    expect(issue.message).toContain(message);
  });
});

describe('layers made from options', () => {
  test('experts are like the model unless they say otherwise', () => {
    const options = sparseSchema.parse({ numExperts: 2 });
    const layer = createSparseLayer(options, { ...sizes, activation: 'swiglu', bias: true });
    expect([...layer.parameters().keys()]).toEqual([
      'router.classifier.weight',
      'experts.gate',
      'experts.up',
      'experts.down',
      'experts.upBias',
      'experts.downBias',
    ]);
  });

  test('have the parameters that the options ask for', () => {
    const gated = sparseSchema.parse({
      numExperts: 4,
      topK: 2,
      intermediateSize: 24,
      dispatch: { kind: 'capacity' },
      experts: { kind: 'feedForward', activation: 'swiglu', bias: true },
    });
    const shapes = [...createSparseLayer(gated, sizes).parameters()].map(([name, { shape }]) => [
      name,
      shape,
    ]);
    expect(shapes).toEqual([
      ['router.classifier.weight', [4, 16]],
      ['experts.gate', [4, 16, 24]],
      ['experts.up', [4, 16, 24]],
      ['experts.down', [4, 24, 16]],
      ['experts.upBias', [4, 24]],
      ['experts.downBias', [4, 16]],
    ]);
  });

  test('start with σ = √(scale / fanIn), the router too unless it has its own', () => {
    const spread = (options: object): Record<string, number> => {
      const parameters = createSparseLayer(
        sparseSchema.parse({ numExperts: 64, ...options }),
        sizes,
      ).parameters();
      const { views } = ParameterArena.allocate(parameters).initialize(parameters, 1);
      return Object.fromEntries(
        [...views].map(([name, data]) => [
          name,
          Math.sqrt(data.reduce((a, b) => a + b * b, 0) / data.length),
        ]),
      );
    };
    // A normal cut at two σ has 0.88 of its spread.
    const cut = 0.8796;
    const plain = spread({});
    expect(plain['experts.up'] / (cut * Math.sqrt(0.1 / 16))).toBeCloseTo(1, 1);
    expect(plain['experts.down'] / (cut * Math.sqrt(0.025 / 32))).toBeCloseTo(1, 1);
    expect(plain['router.classifier.weight'] / (cut * Math.sqrt(0.1 / 16))).toBeCloseTo(1, 1);
    const own = spread({ router: { kind: 'softmax', standardDeviation: 0.5 } });
    expect(own['router.classifier.weight'] / 0.5).toBeCloseTo(1, 1);
    // Uniform in ±1/√16, bias and all.
    const uniform = spread({ router: { kind: 'softmax', bias: true, uniformInitialization: true } });
    expect(uniform['router.classifier.weight'] / (0.25 / Math.sqrt(3))).toBeCloseTo(1, 1);
    expect(Math.abs(uniform['router.classifier.bias'] / (0.25 / Math.sqrt(3)) - 1)).toBeLessThan(0.2);
    expect(spread({ router: { kind: 'softmax', bias: true } })['router.classifier.bias']).toBe(0);
  });

  test('every option reaches its part', () => {
    const layer = createSparseLayer(
      sparseSchema.parse({
        numExperts: 4,
        topK: 2,
        router: { kind: 'softmax', jitter: 0.1, balanceCoefficient: 0.5, zLossCoefficient: 0.25 },
        dispatch: { kind: 'capacity', capacityFactor: 1, minimumCapacity: 1 },
        experts: { kind: 'feedForward', expertDropout: 0.4 },
      }),
      sizes,
    );
    nameParameters(layer);
    const noise = new NoiseInputs();
    const { losses, records } = layer.forward(
      input('hidden', 'float32', [8, 16]),
      layerContext({ noise, training: true, layerIndex: 3 }),
    );
    expect(losses.map(({ coefficient }) => coefficient)).toEqual([0.5, 0.25]);
    expect([records[0].layerIndex, records[0].numExperts, records[0].experts.shape]).toEqual([3, 4, [8, 2]]);
    expect([...noise.feeds].map(([name, { shape }]) => [name, shape])).toEqual([
      ['noise.layer.router', [8, 16]],
      // 8 tokens · 2 choices / 4 experts = 4 places each.
      ['noise.layer.experts', [16, 32]],
    ]);
  });
});

describe('the dense layer', () => {
  const functions = ['relu', 'geluTanh', 'reglu', 'swiglu', 'geglu', 'gegluTanh'] as const;
  test.each(functions)('equals one expert: %s', async (activation) => {
    const [hiddenSize, intermediateSize] = [3, 5];
    const options = { hiddenSize, intermediateSize, activation, bias: true };
    const dense = new DenseFeedForward(options, normal(1), normal(1));
    const parameters = nameParameters(dense, 'float64');
    const gated = activation.includes('glu');
    expect([...parameters.keys()]).toEqual([
      ...(gated ? ['gate.weight', 'gate.bias'] : []),
      ...['up.weight', 'up.bias', 'down.weight', 'down.bias'],
    ]);
    const data = randomParameters(parameters, 1, 1);
    data.get('gate.bias')?.fill(0);
    const hidden = input('hidden', 'float64', [2, hiddenSize]);
    const rows = randomNumbers(2, 6);
    const { output, losses } = dense.forward(hidden, layerContext({ training: true }));
    expect(losses).toEqual([]);
    const actual = await run({ output }, [...data, ['hidden', rows]]);
    const turned = (name: string, inSize: number, outSize: number): [string, Float64Array] => [
      `experts.${name}`,
      Float64Array.from(
        { length: inSize * outSize },
        (_, i) => data.get(`${name}.weight`)![(i % outSize) * inSize + Math.floor(i / outSize)],
      ),
    ];
    const expert = new Map([
      ...(gated ? [turned('gate', hiddenSize, intermediateSize)] : []),
      turned('up', hiddenSize, intermediateSize),
      turned('down', intermediateSize, hiddenSize),
      ['experts.upBias', data.get('up.bias')!] as const,
      ['experts.downBias', data.get('down.bias')!] as const,
    ]);
    const weights = expertWeights(expert, 0, { hiddenSize, intermediateSize });
    const expected = [rows.subarray(0, 3), rows.subarray(3)].flatMap((x) =>
      referenceExpert([...x], weights, activation),
    );
    expect(distance(actual.output, expected)).toBeLessThan(1e-11);
  });

  test('drops its hidden activation in training only', () => {
    const options = { hiddenSize: 3, intermediateSize: 5, activation: 'relu', dropout: 0.1 } as const;
    const dense = new DenseFeedForward(options, normal(1), normal(1));
    nameParameters(dense);
    const sites = (training: boolean): unknown[] => {
      const noise = new NoiseInputs();
      dense.forward(input('hidden', 'float32', [2, 3]), layerContext({ training, noise }));
      return [...noise.feeds].map(([name, { shape }]) => [name, shape]);
    };
    expect(sites(true)).toEqual([['noise.layer.activation', [2, 5]]]);
    expect(sites(false)).toEqual([]);
  });
});
