import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { distance, run } from '../../../test/support/numbers.js';
import { matrix, referenceRouting } from '../../../test/support/reference-moe.js';
import { entropyOf, logitsOf, picked } from '../../../test/support/reference-router.js';
import { input } from '../../graph/index.js';
import { nameParameters, NoiseInputs, normal } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { SoftmaxTopKRouter, type SoftmaxTopKOptions } from './softmax-top-k.js';

type Settings = Omit<Partial<SoftmaxTopKOptions>, keyof RouterSizes>;

const subject = (
  name: string,
  settings: Settings,
  noise: Settings = { jitter: 0.1 },
): Parameters<typeof routerConformance>[0] => {
  const create = (sizes: RouterSizes, more: Settings = {}): SoftmaxTopKRouter =>
    new SoftmaxTopKRouter(
      { ...sizes, balanceCoefficient: 0.01, zLossCoefficient: 1e-3, ...settings, ...more },
      normal(1),
    );
  return {
    name,
    create: (sizes) => create(sizes),
    createNoisy: (sizes) => create(sizes, noise),
    reference: (sizes, inputs, { batchSize }) => {
      const { experts, gates, probabilities, balance, z } = referenceRouting(
        {
          ...sizes,
          ...settings,
          intermediateSize: 0,
          activation: 'relu',
          balanceGroups: settings.group === 'sequence' ? batchSize : 1,
        },
        {
          ...inputs,
          parameters: new Map([...inputs.parameters].map(([key, data]) => [`router.${key}`, data])),
        },
      );
      const { balanceForm = 'paper', entropyCoefficient = 0, entropyOf: seen = 'all' } = settings;
      const logits = logitsOf(inputs);
      const entropy = entropyOf(seen === 'all' ? logits : picked(logits, experts), inputs.mask);
      return {
        experts,
        gates,
        probabilities,
        losses: {
          balance: balanceForm === 'paper' ? balance : balance / sizes.numExperts ** 2,
          z,
          ...(entropyCoefficient > 0 ? { entropy } : {}),
        },
      };
    },
    permuteExperts: (parameters, order, { hiddenSize }) => {
      const rows = matrix(parameters.get('classifier.weight')!, hiddenSize);
      return new Map([['classifier.weight', Float64Array.from(order.flatMap((expert) => rows[expert]))]]);
    },
    skip: {
      'an expert that nobody chose gets no gradient from the gates':
        'a softmax takes from the others what it gives to the chosen',
    },
  };
};

routerConformance(subject('softmax, raw gates', {}));
routerConformance(
  subject('softmax, normalised gates', { normalizeGates: true }, { inputDropout: 0.3, logitNoise: 0.1 }),
);
routerConformance(subject('softmax, balanced per sequence', { group: 'sequence' }));
routerConformance(
  subject('softmax, losses as in σ-MoE’s code', {
    normalizeGates: true,
    balanceForm: 'releasedSigmaMoe',
    entropyCoefficient: 1e-3,
    entropyOf: 'selected',
  }),
);
routerConformance(
  subject('softmax, entropy of all logits', { entropyCoefficient: 1e-3 }, { exploration: 'sample' }),
);

test('raw gates are the probabilities; normalised gates sum to one', async () => {
  const hidden = input('hidden', 'float64', [7, 4]);
  const gatesOf = async (normalizeGates: boolean, topK: number): Promise<number[][]> => {
    const router = new SoftmaxTopKRouter({ hiddenSize: 4, numExperts: 5, topK, normalizeGates }, normal(1));
    nameParameters(router, 'float64');
    const { gates } = await run({ gates: router.route(hidden, layerContext()).gates }, [
      ['hidden', randomNumbers(1, 28)],
      ['classifier.weight', randomNumbers(2, 20)],
    ]);
    return matrix(gates, topK);
  };
  const total = (row: readonly number[]): number => row.reduce((a, b) => a + b, 0);
  for (const row of await gatesOf(true, 3)) expect(total(row)).toBeCloseTo(1, 8);
  for (const row of await gatesOf(false, 5)) expect(total(row)).toBeCloseTo(1, 12);
  for (const row of await gatesOf(false, 3)) expect(total(row)).toBeLessThan(0.999);
});

test('jitter multiplies the input by 1 ± ε', async () => {
  const router = new SoftmaxTopKRouter({ hiddenSize: 4, numExperts: 3, topK: 3, jitter: 0.25 }, normal(1));
  nameParameters(router, 'float64');
  const hidden = input('hidden', 'float64', [6, 4]);
  const { gates, experts } = router.route(hidden, layerContext({ training: true }));
  const flat = randomNumbers(1, 24);
  const weight = randomNumbers(2, 12);
  for (const [u, factor] of [
    [0, 0.75],
    [0.5, 1],
    [1, 1.25],
  ] as const) {
    const actual = await run({ gates, experts }, [
      ['hidden', flat],
      ['classifier.weight', weight],
      ['noise.layer.router', new Float64Array(24).fill(u)],
    ]);
    const expected = referenceRouting(
      { numExperts: 3, topK: 3, hiddenSize: 4, intermediateSize: 0, activation: 'relu' },
      {
        hidden: matrix(
          flat.map((x) => x * factor),
          4,
        ),
        parameters: new Map([['router.classifier.weight', weight]]),
      },
    );
    expect(actual.experts).toEqual(expected.experts.flat());
    expect(distance(actual.gates, expected.gates.flat())).toBeLessThan(1e-12);
  }
});

describe('exploration', () => {
  const tokens = 4000;
  /** One router on the same row again and again, in training. */
  const draw = async (
    topK: number,
  ): Promise<{ experts: number[][]; gates: number[][]; shares: number[] }> => {
    const router = new SoftmaxTopKRouter(
      { hiddenSize: 2, numExperts: 3, topK, exploration: 'sample' },
      normal(1),
    );
    nameParameters(router, 'float64');
    const noise = new NoiseInputs();
    const hidden = input('hidden', 'float64', [tokens, 2]);
    const { experts, gates, probabilities } = router.route(hidden, layerContext({ training: true, noise }));
    const buffers = { 'noise.layer.routerSample': new Float64Array(3 * tokens) };
    noise.fill(5, 1, buffers);
    const result = await run({ experts, gates, probabilities }, [
      ['hidden', new Float64Array(2 * tokens).fill(1)],
      ['classifier.weight', [0.5, 0.5, 0.3, 0, -0.4, 0.1]],
      ...Object.entries(buffers),
    ]);
    return {
      experts: matrix(result.experts, topK),
      gates: matrix(result.gates, topK),
      shares: result.probabilities.slice(0, 3),
    };
  };

  test('by sampling: experts come as often as they are probable, with their probability as weight', async () => {
    const { experts, gates, shares } = await draw(1);
    const often = [0, 1, 2].map((e) => experts.filter(([first]) => first === e).length / tokens);
    expect(distance(often, shares)).toBeLessThan(0.03);
    experts.forEach(([expert], t) => expect(gates[t][0]).toBeCloseTo(shares[expert], 12));
  });

  test('a second draw does not put the first one back', async () => {
    const { experts, shares } = await draw(2);
    for (const [first, second] of experts) expect(second).not.toBe(first);
    const pairs = experts.filter(([first, second]) => first === 0 && second === 1).length / tokens;
    expect(Math.abs(pairs - (shares[0] * shares[1]) / (1 - shares[0]))).toBeLessThan(0.03);
  });

  test('by dropout of the input: what is left counts more, and experts see it all', async () => {
    const router = new SoftmaxTopKRouter(
      { hiddenSize: 4, numExperts: 3, topK: 3, inputDropout: 0.5 },
      normal(1),
    );
    nameParameters(router, 'float64');
    const hidden = input('hidden', 'float64', [6, 4]);
    const routing = router.route(hidden, layerContext({ training: true }));
    expect(routing.expertInput).toBeUndefined();
    const [flat, weight, noise] = [randomNumbers(1, 24), randomNumbers(2, 12), randomNumbers(3, 24, 0, 1)];
    const actual = await run({ gates: routing.gates }, [
      ['hidden', flat],
      ['classifier.weight', weight],
      ['noise.layer.routerInput', noise],
    ]);
    const expected = referenceRouting(
      { numExperts: 3, topK: 3, hiddenSize: 4, intermediateSize: 0, activation: 'relu' },
      {
        hidden: matrix(
          flat.map((x, i) => (noise[i] < 0.5 ? 0 : 2 * x)),
          4,
        ),
        parameters: new Map([['router.classifier.weight', weight]]),
      },
    );
    expect(distance(actual.gates, expected.gates.flat())).toBeLessThan(1e-12);
  });
});
