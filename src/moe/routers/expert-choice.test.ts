import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, run } from '../../../test/support/numbers.js';
import { referenceExpertChoice } from '../../../test/support/reference-expert-choice.js';
import { matrix, referenceRouting } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { nameParameters, normal } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { expertChoice, ExpertChoiceRouter, type ExpertChoiceOptions } from './expert-choice.js';

type Settings = Omit<Partial<ExpertChoiceOptions>, keyof RouterSizes>;

const subject = (name: string, settings: Settings): Parameters<typeof routerConformance>[0] => ({
  name,
  create: (sizes) => new ExpertChoiceRouter({ ...sizes, zLossCoefficient: 1e-3, ...settings }, normal(1)),
  trainingColumns: ({ numExperts }) => numExperts,
  reference: (sizes, inputs, { training, batchSize }) => {
    const { capacityFactor = 1, evaluation, group } = settings;
    const { probabilities, z, experts, gates } = referenceRouting(
      { ...sizes, intermediateSize: 0, activation: 'relu' },
      {
        ...inputs,
        parameters: new Map([...inputs.parameters].map(([key, data]) => [`router.${key}`, data])),
      },
    );
    const groups = group === 'sequence' ? batchSize : 1;
    const { mask } = inputs;
    const decision =
      training || evaluation === 'experts'
        ? referenceExpertChoice(probabilities, { topK: sizes.topK, capacityFactor, groups, mask })
        : { experts, gates };
    return { ...decision, probabilities, losses: { z } };
  },
  permuteExperts: (parameters, order, { hiddenSize }) => {
    const rows = matrix(parameters.get('classifier.weight')!, hiddenSize);
    return new Map([['classifier.weight', Float64Array.from(order.flatMap((expert) => rows[expert]))]]);
  },
  skip: {
    'an expert that nobody chose gets no gradient from the gates':
      'gates are shares of a whole: every expert has a part in them',
    'noise is for training only': 'there is no noise',
    'the backward pass sees the noise of the forward pass': 'there is no noise',
    ...(settings.evaluation === 'experts' && {
      'equal scores go to the lowest index': 'tokens do not choose: of equal tokens the first is taken',
      'topK = numExperts chooses every expert once': 'the same, but for the order: its test is below',
      'the names of the experts do not matter': 'columns without an expert have no name: its test is below',
      'later tokens do not change earlier choices': 'they do, as its leak says',
    }),
  },
});

routerConformance(subject('expert choice', {}));
routerConformance(subject('expert choice, per sequence', { group: 'sequence', capacityFactor: 1.5 }));
routerConformance(subject('expert choice, in evaluation too', { evaluation: 'experts', capacityFactor: 2 }));

describe('experts choose', () => {
  const choose = async (
    scores: readonly (readonly number[])[],
    options: Partial<ExpertChoiceOptions> = {},
    mask?: readonly number[],
    batchSize = 1,
  ): Promise<{ experts: number[][]; gates: number[][] }> => {
    // The identity as weights: a token's row is its logits.
    const numExperts = scores[0].length;
    const router = new ExpertChoiceRouter(
      { hiddenSize: numExperts, numExperts, topK: 1, ...options },
      normal(1),
    );
    nameParameters(router, 'float64');
    const tokenMask = mask && input('mask', 'float64', [scores.length]);
    const { experts, gates } = router.route(
      input('hidden', 'float64', [scores.length, numExperts]),
      layerContext({ training: true, tokenMask, batchSize }),
    );
    const actual = await run({ experts, gates }, [
      ['hidden', scores.flat()],
      ['classifier.weight', scores[0].flatMap((_, i) => scores[0].map((__, j) => Number(i === j)))],
      ['mask', mask ?? []],
    ]);
    return { experts: matrix(actual.experts, numExperts), gates: matrix(actual.gates, numExperts) };
  };

  test('their best tokens, so that some tokens have both experts and some none', async () => {
    const scores = [
      [5, 4],
      [3, 2.5],
      [0, 1],
      [0, 0.1],
    ];
    // Probabilities of expert 0: σ(1), σ(0.5), σ(−1), σ(−0.1): tokens 0 and 1. Of expert 1: tokens 2 and 3.
    expect((await choose(scores)).experts).toEqual([
      [0, -1],
      [0, -1],
      [1, -1],
      [1, -1],
    ]);
    // Four experts between three tokens at one place each.
    const { experts, gates } = await choose([
      [9, 0, 0, 8],
      [0, 9, 9, 0],
      [0, 0, 0, 0],
    ]);
    expect(experts).toEqual([
      [0, 3, -1, -1],
      [1, 2, -1, -1],
      [-1, -1, -1, -1],
    ]);
    expect(gates[0][0]).toBeCloseTo(1 / (1 + Math.exp(-1) + 2 * Math.exp(-9)), 12);
    expect(gates[2]).toEqual([0, 0, 0, 0]);
  });

  test('the first among equal tokens', async () => {
    const equal = new Array<number[]>(6).fill([0, 0, 0]);
    expect((await choose(equal)).experts).toEqual([
      [0, 1, 2],
      [0, 1, 2],
      ...new Array<number[]>(4).fill([-1, -1, -1]),
    ]);
  });

  test('among the real tokens, as many as those are due, even if fewer than places', async () => {
    const scores = matrix(randomNumbers(3, 8 * 2, -2, 2), 2);
    for (const mask of [
      [0, 1, 0, 1, 1, 0, 1, 0],
      [0, 0, 0, 1, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 0, 0],
    ]) {
      const real = scores.filter((_, t) => mask[t] === 1);
      const padded = await choose(scores, { capacityFactor: 1.5 }, mask);
      const rows = padded.experts.filter((_, t) => mask[t] === 1);
      expect(rows).toEqual(real.length === 0 ? [] : (await choose(real, { capacityFactor: 1.5 })).experts);
      expect(padded.experts.filter((_, t) => mask[t] === 0).flat()).toEqual(
        mask.flatMap((m) => (m === 0 ? [-1, -1] : [])),
      );
    }
  });

  test('all tokens when there are places for all', async () => {
    const scores = matrix(randomNumbers(4, 5 * 3, -2, 2), 3);
    const { experts } = await choose(scores, { topK: 3 });
    for (const row of experts) expect([...row].sort()).toEqual([0, 1, 2]);
    expect((await choose(scores, { topK: 3, capacityFactor: 9 })).experts).toEqual(experts);
  });

  test('whatever the experts are called', async () => {
    const scores = matrix(randomNumbers(5, 9 * 4, -2, 2), 4);
    const order = [2, 0, 3, 1];
    const a = await choose(scores, { capacityFactor: 2 });
    const b = await choose(
      scores.map((row) => order.map((expert) => row[expert])),
      { capacityFactor: 2 },
    );
    expect(b.experts.map((row) => row.map((expert) => (expert < 0 ? -1 : order[expert])))).toEqual(a.experts);
    expect(distance(b.gates.flat(), a.gates.flat())).toBeLessThan(1e-12);
  });

  test('an equal number of tokens each, in every sequence when sequences are the groups', async () => {
    const scores = matrix(randomNumbers(6, 24 * 4, -2, 2), 4);
    const loads = (rows: readonly (readonly number[])[]): number[] =>
      [0, 1, 2, 3].map((expert) => rows.filter((row) => row.includes(expert)).length);
    const together = (await choose(scores, { topK: 2 }, undefined, 3)).experts;
    expect(loads(together)).toEqual([12, 12, 12, 12]);
    const apart = (await choose(scores, { topK: 2, group: 'sequence' }, undefined, 3)).experts;
    for (const at of [0, 8, 16]) expect(loads(apart.slice(at, at + 8))).toEqual([4, 4, 4, 4]);
    expect(apart).not.toEqual(together);
  });
});

test('says what leaks, and what a token costs', () => {
  const sizes = { ...layerSizes(), numExperts: 4, topK: 2 };
  const create = (options: object) =>
    expertChoice.create(expertChoice.schema.parse({ kind: 'expertChoice', ...options }), sizes);
  expect(create({}).leak).toBeUndefined();
  expect(create({ evaluation: 'experts' }).leak).toBe(
    "experts choose among all tokens of the batch; evaluation: 'topK' lets each token choose by itself",
  );
  expect(create({ evaluation: 'experts', group: 'sequence' }).leak).toMatch(/later tokens included/);
  expect(create({ capacityFactor: 1.5 }).expectedTopK).toBe(3);
  expect(create({ capacityFactor: 8 }).expectedTopK).toBe(4);
  expect(() => expertChoice.schema.parse({ kind: 'expertChoice', capacityFactor: 0 })).toThrow();
});
