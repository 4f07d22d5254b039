import { expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { distance, run } from '../../../test/support/numbers.js';
import { matrix, referenceRouting } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { nameParameters, normal } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { SoftmaxTopKRouter, type SoftmaxTopKOptions } from './softmax-top-k.js';

type Settings = Omit<Partial<SoftmaxTopKOptions>, keyof RouterSizes>;

const subject = (name: string, settings: Settings): Parameters<typeof routerConformance>[0] => {
  const create = (sizes: RouterSizes, more: Settings = {}): SoftmaxTopKRouter =>
    new SoftmaxTopKRouter(
      { ...sizes, balanceCoefficient: 0.01, zLossCoefficient: 1e-3, ...settings, ...more },
      normal(1),
    );
  return {
    name,
    create: (sizes) => create(sizes),
    createNoisy: (sizes) => create(sizes, { jitter: 0.1 }),
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
      return { experts, gates, probabilities, losses: { balance, z } };
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
routerConformance(subject('softmax, normalised gates', { normalizeGates: true }));
routerConformance(subject('softmax, balanced per sequence', { group: 'sequence' }));

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
