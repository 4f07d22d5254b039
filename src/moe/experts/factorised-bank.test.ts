import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { expertWeights, referenceExpert } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { nameParameters, normal } from '../../nn/index.js';
import type { ActivationName } from '../activations.js';
import { CapacityDispatch } from '../dispatch/capacity.js';
import { DroplessDispatch } from '../dispatch/dropless.js';
import { expertBankConformance } from '../expert-bank.case.js';
import { ExpertChoiceRouter } from '../routers/expert-choice.js';
import { SoftmaxTopKRouter } from '../routers/softmax-top-k.js';
import { SparseLayer } from '../sparse-layer.js';
import { FactorisedBank, factorised } from './factorised-bank.js';
import { FeedForwardBank } from './feed-forward-bank.js';

const rank = 2;

interface Sizes {
  readonly numExperts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
}

/** The weights of ordinary experts that a factorised bank stands for, each by its definition. */
function materialised(
  parameters: ReadonlyMap<string, Float64Array>,
  { numExperts, hiddenSize, intermediateSize }: Sizes,
): Map<string, Float64Array> {
  const left = parameters.get('left')!;
  const u = (e: number, i: number, r: number): number => left[(e * intermediateSize + i) * rank + r];
  const sum = (term: (r: number) => number): number =>
    Array.from({ length: rank }, (_, r) => term(r)).reduce((a, b) => a + b);
  const built = new Map<string, Float64Array>();
  for (const [role, centre, right] of [
    ['gate', 'centreGate', 'rightGate'],
    ['up', 'centreUp', 'rightUp'],
  ] as const) {
    const shared = parameters.get(centre);
    const own = parameters.get(right)!;
    if (!shared) continue;
    const weight = new Float64Array(numExperts * shared.length);
    weight.forEach((_, at) => {
      const [e, h, i] = [
        Math.floor(at / shared.length),
        Math.floor((at % shared.length) / intermediateSize),
        at % intermediateSize,
      ];
      weight[at] = shared[at % shared.length] + sum((r) => u(e, i, r) * own[(e * hiddenSize + h) * rank + r]);
    });
    built.set(role, weight);
  }
  const down = parameters.get('centreDown')!;
  const rightDown = parameters.get('rightDown')!;
  built.set(
    'down',
    Float64Array.from({ length: numExperts * down.length }, (_, at) => {
      const [e, i, h] = [
        Math.floor(at / down.length),
        Math.floor((at % down.length) / hiddenSize),
        at % hiddenSize,
      ];
      return down[at % down.length] + sum((r) => u(e, i, r) * rightDown[(e * rank + r) * hiddenSize + h]);
    }),
  );
  const bias = parameters.get('centreUpBias');
  if (bias) {
    const right = parameters.get('rightUpBias')!;
    built.set(
      'upBias',
      Float64Array.from({ length: numExperts * intermediateSize }, (_, at) => {
        const [e, i] = [Math.floor(at / intermediateSize), at % intermediateSize];
        return bias[i] + sum((r) => u(e, i, r) * right[e * rank + r]);
      }),
    );
    built.set('downBias', parameters.get('downBias')!);
  }
  return built;
}

describe.each<[ActivationName, boolean]>([
  ['relu', false],
  ['gelu', true],
  ['swiglu', true],
  ['swiglu', false],
])('%s, biases %s', (activation, bias) => {
  expertBankConformance({
    name: 'factorised',
    create: (sizes) => new FactorisedBank({ ...sizes, rank, activation, bias }, normal(1), normal(1)),
    reference: (x, expert, parameters, sizes) => {
      const named = new Map(
        [...materialised(parameters, sizes)].map(([name, data]) => [`experts.${name}`, data]),
      );
      return referenceExpert(x, expertWeights(named, expert, sizes), activation);
    },
    shared: new Set(['centreGate', 'centreUp', 'centreDown', 'centreUpBias']),
    skip: {
      'dropout: the same mask for the same step, none in evaluation': 'compressed experts have no dropout',
      'dropout keeps the mean and the gradient': 'compressed experts have no dropout',
    },
  });
});

const sizes = { numExperts: 4, hiddenSize: 4, intermediateSize: 6 };

describe.each([
  ['dropless', () => new DroplessDispatch()],
  ['capacity', () => new CapacityDispatch({ capacityFactor: 1, minimumCapacity: 1 })],
  ['expert choice', () => new DroplessDispatch()],
])('in a layer with %s dispatch', (name, dispatch) => {
  test.each(['relu', 'swiglu'] as const)('%s equals the materialised experts', async (activation) => {
    const tokens = 12;
    const router = (): SoftmaxTopKRouter | ExpertChoiceRouter =>
      name === 'expert choice'
        ? new ExpertChoiceRouter({ hiddenSize: 4, numExperts: 4, topK: 2, capacityFactor: 1 }, normal(1))
        : new SoftmaxTopKRouter({ hiddenSize: 4, numExperts: 4, topK: 2 }, normal(1));
    const options = { ...sizes, activation, bias: true };
    const forward = async (
      experts: FactorisedBank | FeedForwardBank,
      given?: ReadonlyMap<string, Float64Array>,
    ): Promise<{ output: number[]; data: Map<string, Float64Array>; flops: number }> => {
      const layer = new SparseLayer({ router: router(), dispatch: dispatch(), experts });
      const parameters = nameParameters(layer, 'float32');
      const data = randomParameters(parameters, 8, 0.7);
      for (const [key, values] of given ?? []) data.set(`experts.${key}`, values);
      // The same router for both.
      for (const [key, { size }] of parameters)
        if (key.startsWith('router')) data.set(key, randomNumbers(3, size, -1, 1));
      const hidden = input('hidden', 'float32', [tokens, 4]);
      const { output } = layer.forward(hidden, layerContext());
      const feeds = [...data, ['hidden', randomNumbers(4, tokens * 4)]] as const;
      return { output: (await run({ output }, feeds, 'float32')).output, data, flops: layer.cost().flops };
    };
    const small = await forward(new FactorisedBank({ ...options, rank }, normal(1), normal(1)));
    const named = new Map(
      [...small.data].flatMap(([key, values]) =>
        key.startsWith('experts.') ? [[key.slice('experts.'.length), values] as const] : [],
      ),
    );
    const large = await forward(
      new FeedForwardBank(options, normal(1), normal(1)),
      materialised(named, sizes),
    );
    expect(distance(small.output, large.output)).toBeLessThan(1e-5);
    expect(Math.max(...small.output.map(Math.abs))).toBeGreaterThan(0.01);
  });
});

test('the centre is worked through once a token, the factors once a row', () => {
  // Rank 8 of 64 × (2 · 64): 8 · (64 + 128) parameters, 8 · (2 · 64 + 128) products because U is used twice.
  const options = { numExperts: 4, hiddenSize: 64, intermediateSize: 64, activation: 'relu' } as const;
  const bank = new FactorisedBank({ ...options, rank: 8 }, normal(1), normal(1));
  const dense = new FeedForwardBank(options, normal(1), normal(1));
  expect(bank.sharedCost).toEqual({ parameters: 2 * 64 * 64, flops: dense.costPerRow.flops });
  expect(bank.costPerRow).toEqual({ parameters: 8 * (64 + 128), flops: 2 * 8 * (128 + 128) });
});

test('only the listed blocks are factorised', () => {
  const options = factorised.schema.parse({ kind: 'factorised', rank: 2, layers: [1, 3] });
  const create = (layerIndex: number): unknown =>
    factorised.create(options, { ...layerSizes(), numExperts: 3, topK: 1, layerIndex });
  expect(create(1)).toBeInstanceOf(FactorisedBank);
  expect(create(2)).toBeInstanceOf(FeedForwardBank);
});
