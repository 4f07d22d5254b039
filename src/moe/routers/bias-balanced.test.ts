import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { distance, run } from '../../../test/support/numbers.js';
import { matrix, type Matrix } from '../../../test/support/reference-moe.js';
import {
  largestOf,
  loadOf,
  logistic,
  logitsOf,
  normalized,
  permuteRows,
  picked,
  softmaxOf,
} from '../../../test/support/reference-router.js';
import { gradients, input, sum } from '../../graph/index.js';
import { nameParameters, normal } from '../../nn/index.js';
import { routerConformance, type RouterSizes, type RouterSubject } from '../router.case.js';
import { BiasBalancedRouter, followLoad, type BiasBalancedOptions } from './bias-balanced.js';
import type { ExpertGroups } from './group-limit.js';

type Settings = Omit<Partial<BiasBalancedOptions>, keyof RouterSizes>;

/** `N Σ f P` of each sequence's real tokens, averaged over the sequences that have any. */
function sequenceBalance(
  chosen: Matrix,
  shares: Matrix,
  mask: readonly number[] | undefined,
  sequences: number,
): number {
  const numExperts = shares[0].length;
  const values: number[] = [];
  for (let sequence = 0; sequence < sequences; sequence++) {
    const size = shares.length / sequences;
    const real = shares.map((_, t) => t).filter((t) => Math.floor(t / size) === sequence && mask?.[t] !== 0);
    if (real.length === 0) continue;
    const load = loadOf(
      real.map((t) => chosen[t]),
      numExperts,
      undefined,
    );
    values.push(
      load.reduce((total, count, e) => {
        const f = (numExperts * count) / (real.length * chosen[0].length);
        return total + f * (real.reduce((sum, t) => sum + shares[t][e], 0) / real.length);
      }, 0),
    );
  }
  return values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
}

/** Scores, −∞ outside the best groups of neighbours. */
function withinGroups(row: readonly number[], { count, chosen, score }: ExpertGroups): number[] {
  const size = row.length / count;
  const value = (group: number): number => {
    const sorted = row.slice(group * size, (group + 1) * size).sort((a, b) => b - a);
    return score === 'largest' ? sorted[0] : sorted[0] + sorted[1];
  };
  const order = Array.from({ length: count }, (_, group) => group).sort(
    (a, b) => value(b) - value(a) || a - b,
  );
  const best = new Set(order.slice(0, chosen));
  return row.map((s, e) => (best.has(Math.floor(e / size)) ? s : -Infinity));
}

function conform(name: string, settings: Settings, skip: NonNullable<RouterSubject['skip']>): void {
  const { score = 'sigmoid', normalizeGates = score === 'sigmoid', scale = 1, groups } = settings;
  routerConformance({
    name,
    create: (sizes) =>
      new BiasBalancedRouter({ ...sizes, sequenceBalanceCoefficient: 1e-4, ...settings }, normal(1)),
    reference: ({ topK, numExperts }, inputs, { training, batchSize }) => {
      const logits = logitsOf(inputs);
      const scores = logits.map((row) => (score === 'sigmoid' ? row.map(logistic) : softmaxOf(row)));
      const bias = inputs.parameters.get('loadBias')!;
      const biased = scores.map((row) => row.map((s, e) => s + bias[e]));
      const experts = largestOf(groups ? biased.map((row) => withinGroups(row, groups)) : biased, topK);
      const chosen = picked(scores, experts);
      const gates = normalizeGates ? normalized(chosen, 1e-9) : chosen;
      const probabilities = normalized(scores);
      return {
        experts,
        gates: gates.map((row) => row.map((gate) => gate * scale)),
        probabilities,
        losses: { balance: sequenceBalance(largestOf(scores, topK), probabilities, inputs.mask, batchSize) },
        ...(training ? { observations: [loadOf(experts, numExperts, inputs.mask)] } : {}),
      };
    },
    permuteExperts: permuteRows,
    skip: {
      'noise is for training only': 'there is no noise',
      'the backward pass sees the noise of the forward pass': 'there is no noise',
      ...skip,
    },
  });
}

const coupled = {
  'an expert that nobody chose gets no gradient from the gates':
    'a softmax takes from the others what it gives to the chosen',
};
conform('bias-balanced, sigmoid', {}, {});
conform('bias-balanced, raw sigmoid, scaled', { normalizeGates: false, scale: 2.5 }, {});
const limited = {
  'one expert gets every token': 'one expert makes no groups',
  'topK = numExperts chooses every expert once': 'the chosen groups do not have them all',
  'the names of the experts do not matter': 'groups are neighbours',
};
conform(
  'bias-balanced, two best of three groups',
  { groups: { count: 3, chosen: 2, score: 'topTwo' } },
  limited,
);
conform('bias-balanced, one of two groups', { groups: { count: 2, chosen: 1, score: 'largest' } }, limited);
conform('bias-balanced, softmax', { score: 'softmax' }, coupled);

describe('the bias', () => {
  /** Runs a router of 4 experts, the first of which has the bias 10. */
  const route = async (settings: Settings) => {
    const router = new BiasBalancedRouter({ hiddenSize: 3, numExperts: 4, topK: 2, ...settings }, normal(1));
    const parameters = nameParameters(router, 'float64');
    const { experts, gates } = router.route(input('hidden', 'float64', [8, 3]), layerContext());
    const [gradient] = gradients(sum(gates), [parameters.get('loadBias')!.tensor]);
    return run({ experts, gates, gradient }, [
      ['hidden', randomNumbers(1, 24)],
      ['classifier.weight', randomNumbers(2, 12)],
      ['loadBias', [10, 0, 0, 0]],
    ]);
  };

  test('chooses, and does not weigh; it has no gradient', async () => {
    const { experts, gates, gradient } = await route({ normalizeGates: false });
    expect(matrix(experts, 2).every(([first]) => first === 0)).toBe(true);
    const logits = logitsOf({
      hidden: matrix(randomNumbers(1, 24), 3),
      parameters: new Map([['classifier.weight', randomNumbers(2, 12)]]),
    });
    const expected = logits.map(([z]) => logistic(z));
    expect(
      distance(
        matrix(gates, 2).map(([gate]) => gate),
        expected,
      ),
    ).toBeLessThan(1e-12);
    expect(gradient).toEqual([0, 0, 0, 0]);
  });

  test('normalised weights sum to the scale', async () => {
    const { gates } = await route({ scale: 2.5 });
    const sums = matrix(gates, 2).map((row) => row.reduce((a, b) => a + b, 0));
    expect(distance(sums, new Array<number>(8).fill(2.5))).toBeLessThan(1e-8);
  });
});

describe('following the load', () => {
  test('by hand: one step against the crowd, then centred', () => {
    const bias = Float32Array.of(0, 0, 0, 0);
    // Mean 4: the first is crowded, the second even, the others idle. Steps −1, 0, 1, 1 have the mean 0.25.
    followLoad(bias, Float32Array.of(9, 4, 2, 1), 1);
    expect([...bias]).toEqual([-1.25, -0.25, 0.75, 0.75]);
  });

  test('an even load, or none, changes nothing', () => {
    const bias = Float32Array.of(0.5, -0.5);
    followLoad(bias, Float32Array.of(3, 3), 1);
    followLoad(bias, Float32Array.of(0, 0), 1);
    expect([...bias]).toEqual([0.5, -0.5]);
  });

  test('the mean stays 0 over ten thousand updates', () => {
    const bias = new Float32Array(7);
    for (let i = 0; i < 10_000; i++) {
      followLoad(bias, Float32Array.from(randomNumbers(i, 7, 0, 9).map(Math.floor)), 1e-3);
    }
    expect(Math.abs(bias.reduce((a, b) => a + b, 0)) / 7).toBeLessThan(1e-6);
    expect(Math.max(...bias)).toBeGreaterThan(0.01);
  });

  test('repeated, it evens out a load that the scores alone would leave lopsided', async () => {
    const router = new BiasBalancedRouter({ hiddenSize: 3, numExperts: 4, topK: 1 }, normal(1));
    nameParameters(router, 'float32');
    const { updates } = router.route(input('hidden', 'float32', [64, 3]), layerContext({ training: true }));
    const [{ observation, apply }] = updates!;
    // Inputs that lean one way give the first expert nearly everything.
    const hidden = randomNumbers(1, 192, -0.5, 1);
    const weight = [2, 2, 2, ...randomNumbers(2, 9)];
    const bias = new Float32Array(4);
    const loadNow = async (): Promise<number[]> =>
      (
        await run(
          { load: observation },
          [
            ['hidden', hidden],
            ['classifier.weight', weight],
            ['loadBias', [...bias]],
          ],
          'float32',
        )
      ).load;
    const before = await loadNow();
    for (let i = 0; i < 60; i++) apply(bias, Float32Array.from(await loadNow()));
    for (let i = 0; i < 1000; i++) apply(bias, Float32Array.from(before));
    expect(Math.max(...before)).toBeGreaterThan(40);
    expect(Math.max(...(await loadNow()))).toBeLessThan(40);
  });
});
