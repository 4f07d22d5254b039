import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { errorFunction, matrix, type Matrix } from '../../../test/support/reference-moe.js';
import {
  largestOf,
  loadOf,
  logitsOf,
  permuteRows,
  picked,
  realOnly,
  softmaxOf,
  squaredVariationOf,
} from '../../../test/support/reference-router.js';
import { input } from '../../graph/index.js';
import { nameParameters, NoiseInputs, normal, streamKey } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { NoisyTopKRouter, noisyTopK } from './noisy-top-k.js';

const normalCdf = (x: number): number =>
  Math.abs(x) > 5.5 ? (x > 0 ? 1 : 0) : 0.5 * (1 + errorFunction(x / Math.SQRT2));

/** Chance that each expert beats the k-th largest noisy score of the others: `[tokens][numExperts]`. */
function chances(clean: Matrix, noisy: Matrix, deviation: Matrix, topK: number): number[][] {
  return clean.map((row, t) =>
    row.map((score, expert) => {
      const others = noisy[t].filter((_, other) => other !== expert).sort((a, b) => b - a);
      return topK > others.length ? 1 : normalCdf((score - others[topK - 1]) / deviation[t][expert]);
    }),
  );
}

const columns = (rows: Matrix, count: number): number[] =>
  Array.from({ length: count }, (_, e) => rows.reduce((total, row) => total + row[e], 0));

function conform(name: string, minimumNoise: number): void {
  const create = (sizes: RouterSizes): NoisyTopKRouter =>
    new NoisyTopKRouter(
      { ...sizes, minimumNoise, importanceCoefficient: 0.1, loadCoefficient: 0.1 },
      normal(1),
      normal(1),
    );
  routerConformance({
    name,
    create,
    createNoisy: create,
    reference: ({ topK, numExperts }, inputs, { noise }) => {
      const clean = logitsOf(inputs);
      const drawn = noise.get('noise.layer.noisyTopK');
      const deviation = logitsOf(inputs, 'noise.weight').map((row) =>
        row.map((value) => Math.log1p(Math.exp(value)) + minimumNoise),
      );
      const noisy = clean.map((row, t) =>
        row.map((score, e) => score + (drawn ? drawn[t * numExperts + e] * deviation[t][e] : 0)),
      );
      const experts = largestOf(noisy, topK);
      const gates = picked(noisy, experts).map(softmaxOf);
      const spread = gates.map((row, t) =>
        Array.from({ length: numExperts }, (_, e) => row[experts[t].indexOf(e)] ?? 0),
      );
      const load = drawn
        ? columns(realOnly(chances(clean, noisy, deviation, topK), inputs.mask), numExperts)
        : loadOf(experts, numExperts, inputs.mask);
      return {
        experts,
        gates,
        probabilities: clean.map(softmaxOf),
        losses: {
          importance: squaredVariationOf(columns(realOnly(spread, inputs.mask), numExperts)),
          load: squaredVariationOf(load),
        },
      };
    },
    permuteExperts: permuteRows,
  });
}

conform('noisy top-k', 0);
conform('noisy top-k, some noise at least', 0.01);

/** A router over 200 rows of 4 numbers, in training. */
function trace(topK: number) {
  const router = new NoisyTopKRouter({ hiddenSize: 4, numExperts: 5, topK }, normal(1), normal(1));
  const parameters = nameParameters(router, 'float64');
  const noise = new NoiseInputs();
  const hidden = input('hidden', 'float64', [200, 4]);
  const routing = router.route(hidden, layerContext({ training: true, noise }));
  const data = randomParameters(parameters, 2, 1);
  data.set(
    'classifier.weight',
    data.get('classifier.weight')!.map((value) => 3 * value),
  );
  const feeds = (step: number) => {
    const buffers = { 'noise.layer.noisyTopK': new Float64Array(1000) };
    noise.fill(3, step, buffers);
    return [['hidden', randomNumbers(1, 800, -0.5, 1)], ...data, ...Object.entries(buffers)] as const;
  };
  return { routing, feeds };
}

describe('the load', () => {
  test('the estimate lies near what is counted over many draws', async () => {
    const { routing, feeds } = trace(2);
    const outputs = { load: routing.losses[1].value, experts: routing.experts };
    const draws = await Promise.all([1, 2, 3, 4, 5, 6].map((step) => run(outputs, feeds(step))));
    const counted = draws.map(({ experts }) => squaredVariationOf(loadOf(matrix(experts, 2), 5, undefined)));
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    const estimated = mean(draws.map(({ load }) => load[0]));
    expect(estimated).toBeGreaterThan(0.01);
    expect(Math.abs(estimated / mean(counted) - 1)).toBeLessThan(0.2);
  });

  test('with every expert chosen it is even', async () => {
    const { routing, feeds } = trace(5);
    const { load } = await run({ load: routing.losses[1].value }, feeds(1));
    expect(load).toEqual([0]);
  });
});

test('the weights of the kept experts sum to one', async () => {
  const { routing, feeds } = trace(3);
  const { gates } = await run({ gates: routing.gates }, feeds(1));
  const sums = matrix(gates, 3).map((row) => row.reduce((a, b) => a + b, 0));
  expect(distance(sums, new Array<number>(200).fill(1))).toBeLessThan(1e-12);
});

test('from a recipe: weights start at zero, or by the model’s own rule', () => {
  const sizes = { ...layerSizes(), numExperts: 3, topK: 1 };
  const start = (options: object): number[] => {
    const router = noisyTopK.create(noisyTopK.schema.parse({ kind: 'noisyTopK', ...options }), sizes);
    const numbers = new Float32Array(12);
    for (const [name, { initializer }] of router.parameters()) initializer(streamKey(name), numbers);
    return [...numbers];
  };
  expect(start({})).toEqual(new Array<number>(12).fill(0));
  expect(start({ initialization: 'model' }).every((value) => value !== 0)).toBe(true);
});
