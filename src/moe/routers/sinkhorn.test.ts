import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { run } from '../../../test/support/numbers.js';
import { logSumExp, matrix, type Matrix } from '../../../test/support/reference-moe.js';
import {
  entropyOf,
  largestOf,
  loadOf,
  logistic,
  logitsOf,
  permuteRows,
  picked,
  softmaxOf,
} from '../../../test/support/reference-router.js';
import { input } from '../../graph/index.js';
import { nameParameters, NoiseInputs, normal } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { SinkhornRouter, type SinkhornRouterOptions } from './sinkhorn.js';

type Settings = Omit<Partial<SinkhornRouterOptions>, keyof RouterSizes>;

/** The plan by scaling rows and columns in turn, columns last. */
function plan(z: Matrix, { iterations = 3, potentials = 'correct' }: Settings): number[][] {
  const sign = potentials === 'correct' ? 1 : -1;
  const u = z.map(() => 0);
  const v = z[0].map(() => 0);
  for (let round = 0; round < iterations; round++) {
    z.forEach((row, t) => (u[t] = -logSumExp(row.map((value, e) => value + sign * v[e]))));
    v.forEach((_, e) => (v[e] = -logSumExp(z.map((row, t) => row[e] + sign * u[t]))));
  }
  return z.map((row, t) => row.map((value, e) => Math.exp(value + u[t] + v[e])));
}

/** The plan of each group over its real tokens; padding keeps its logits. */
function plans(z: Matrix, mask: readonly number[] | undefined, groups: number, settings: Settings): Matrix {
  const scores = z.map((row) => [...row]);
  for (let group = 0; group < groups; group++) {
    const size = z.length / groups;
    const real = z.map((_, t) => t).filter((t) => Math.floor(t / size) === group && mask?.[t] !== 0);
    if (real.length === 0) continue;
    plan(
      real.map((t) => z[t]),
      settings,
    ).forEach((row, i) => (scores[real[i]] = row));
  }
  return scores;
}

function conform(name: string, settings: Settings): void {
  const create = (sizes: RouterSizes, more: Settings = {}): SinkhornRouter =>
    new SinkhornRouter({ ...sizes, entropyCoefficient: 1e-3, ...settings, ...more }, normal(1));
  routerConformance({
    name,
    create: (sizes) => create(sizes),
    createNoisy: (sizes) => create(sizes, { expertDropout: 0.4 }),
    reference: ({ topK, numExperts }, inputs, { training, batchSize, noise }) => {
      const { group = 'batch', expertDropout = 0 } = settings;
      const logits = logitsOf(inputs);
      const scores = training
        ? plans(logits, inputs.mask, group === 'sequence' ? batchSize : 1, settings)
        : logits;
      const drawn = noise.get('noise.layer.expertDropout');
      const isOpen = (t: number, e: number): boolean => !drawn || drawn[t * numExperts + e] >= expertDropout;
      const experts = largestOf(
        scores.map((row, t) => row.map((value, e) => (isOpen(t, e) ? value : -1e30))),
        topK,
      );
      const gates = logits.map((row, t) => row.map((z, e) => (isOpen(t, e) ? logistic(z) : 0)));
      return {
        experts,
        gates: picked(gates, experts),
        probabilities: logits.map(softmaxOf),
        losses: { entropy: entropyOf(logits, inputs.mask) },
      };
    },
    permuteExperts: permuteRows,
  });
}

conform('S-BASE', {});
conform('S-BASE, per sequence', { group: 'sequence' });
conform('S-BASE, potentials as released', { potentials: 'released', iterations: 5 });
conform('S-BASE, expert dropout', { expertDropout: 0.3 });

describe('balance', () => {
  const tokens = 64;
  const numExperts = 8;
  const hidden = matrix(randomNumbers(1, tokens * 6), 6);
  // One expert would get most tokens without a plan.
  const weight = randomNumbers(2, numExperts * 6, -4, 4);
  const feeds = [
    ['hidden', Float64Array.from(hidden.flat())],
    ['classifier.weight', weight],
  ] as const;
  const route = async (settings: Settings, context: Parameters<typeof layerContext>[0], topK = 1) => {
    const router = new SinkhornRouter({ hiddenSize: 6, numExperts, topK, ...settings }, normal(1));
    nameParameters(router, 'float64');
    const { experts, gates } = router.route(input('hidden', 'float64', [tokens, 6]), layerContext(context));
    return run({ experts, gates }, feeds);
  };
  const peak = (experts: readonly number[]): number =>
    Math.max(...loadOf([experts], numExperts, undefined)) / (tokens / numExperts);

  test('the correct fixed point spreads tokens; the released one does so less; plain top-k least', async () => {
    const [correct, released, plain] = [
      await route({ iterations: 200 }, { training: true }),
      await route({ iterations: 200, potentials: 'released' }, { training: true }),
      await route({}, { training: false }),
    ].map(({ experts }) => peak(experts));
    expect(correct).toBeLessThanOrEqual(1.5);
    expect(released).toBeGreaterThan(correct);
    expect(plain).toBeGreaterThan(released);
  });

  test('the plan has even columns and, when it has settled, even rows', () => {
    const logits = logitsOf({ hidden, parameters: new Map([['classifier.weight', weight]]) });
    const settled = plan(logits, { iterations: 500 });
    const columns = settled[0].map((_, e) => settled.reduce((total, row) => total + row[e], 0));
    for (const column of columns) expect(column).toBeCloseTo(1, 9);
    for (const row of settled) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(numExperts / tokens, 6);
  });

  test('while training an earlier choice depends on later tokens, as documented; outside it does not', async () => {
    const prefix = async (training: boolean, length: number): Promise<number[]> => {
      const router = new SinkhornRouter({ hiddenSize: 6, numExperts, topK: 1 }, normal(1));
      nameParameters(router, 'float64');
      const { experts } = router.route(input('hidden', 'float64', [length, 6]), layerContext({ training }));
      const rows = Float64Array.from(hidden.slice(0, length).flat());
      const result = await run({ experts }, [feeds[1], ['hidden', rows]]);
      return result.experts.slice(0, 20);
    };
    expect(await prefix(false, 20)).toEqual(await prefix(false, 64));
    expect(await prefix(true, 20)).not.toEqual(await prefix(true, 64));
  });
});

test('with almost every expert closed, weights are 0 and never NaN', async () => {
  const router = new SinkhornRouter(
    { hiddenSize: 4, numExperts: 5, topK: 3, expertDropout: 1 - 2 ** -40 },
    normal(1),
  );
  nameParameters(router, 'float64');
  const noise = new NoiseInputs();
  const hidden = input('hidden', 'float64', [6, 4]);
  const { gates, experts } = router.route(hidden, layerContext({ training: true, noise }));
  const buffers = { 'noise.layer.expertDropout': new Float64Array(30) };
  noise.fill(3, 1, buffers);
  const result = await run({ gates, experts }, [
    ['hidden', randomNumbers(1, 24)],
    ['classifier.weight', randomNumbers(2, 20)],
    ...Object.entries(buffers),
  ]);
  expect(result.gates).toEqual(new Array<number>(18).fill(0));
  expect(matrix(result.experts, 3)).toEqual(new Array<number[]>(6).fill([0, 1, 2]));
});
