import { expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext } from '../../../test/support/moe-context.js';
import { run } from '../../../test/support/numbers.js';
import { matrix, type Matrix } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { NoiseInputs, RandomStream, streamKey } from '../../nn/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { RandomRouter, type RandomOptions } from './random.js';

const prime = 2147483647n;

/** Experts by the hash, in exact integers: for `ids` of `batchSize` sequences, in layer `layer`. */
function hashed(
  { numExperts, topK, seed = 0 }: RandomOptions,
  ids: readonly number[],
  batchSize: number,
  layer = 0,
): number[][] {
  const random = new RandomStream(streamKey(seed, 'random routing', layer, numExperts));
  const draw = (): bigint[] =>
    Array.from({ length: numExperts }, () => BigInt(1 + random.integer(Number(prime) - 1)));
  const [a, b, c] = [draw(), draw(), draw()];
  return ids.map((id, token) => {
    const position = BigInt(token % (ids.length / batchSize));
    const scores = a.map((_, e) => ((BigInt(id) * a[e] + position * b[e] + c[e]) % prime) ** 2n % prime);
    return scores
      .map((_, expert) => expert)
      .sort((x, y) => (scores[x] === scores[y] ? x - y : scores[x] < scores[y] ? 1 : -1))
      .slice(0, topK);
  });
}

const idOf = (row: readonly number[]): number =>
  Math.floor(Math.abs(row.reduce((a, b) => a + b, 0)) * 997) % 50_000;

routerConformance({
  name: 'random',
  create: (sizes) => new RandomRouter(sizes),
  surroundings: (hidden) => ({
    context: { tokenIds: input('ids', 'int32', [hidden.length]) },
    feeds: [['ids', Int32Array.from(hidden, idOf)]],
  }),
  reference: (sizes: RouterSizes, { hidden }, { batchSize }) => {
    const experts = hashed(sizes, hidden.map(idOf), batchSize);
    return {
      experts,
      gates: experts.map((row) => row.map(() => 1 / sizes.topK)),
      probabilities: hidden.map(() => new Array<number>(sizes.numExperts).fill(1 / sizes.numExperts)),
      losses: {},
    };
  },
  permuteExperts: () => new Map(),
  skip: {
    'training chooses as its equations say': 'training is noise alone: its tests are below',
    'sequences of a batch are told apart as declared': 'training is noise alone: its tests are below',
    'gradients equal finite differences': 'nothing has a gradient',
    'an expert that nobody chose gets no gradient from the gates': 'it has no parameters',
    'padding changes nothing': 'a place in the sequence counts, padding before it included',
    'equal scores go to the lowest index': 'there are no scores',
    'one expert gets every token': 'training is noise alone: its tests are below',
    'the names of the experts do not matter': 'experts have no parameters here',
    'noise is for training only': 'there is no router without noise: its tests are below',
    'the backward pass sees the noise of the forward pass': 'nothing has a gradient',
  },
});

const tokens = 4000;

/** Experts of many tokens, from noise in training and from ids outside it. */
async function chosen(
  options: RandomOptions,
  training: boolean,
  { batchSize = 1, layerIndex = 0, ids = Int32Array.from({ length: tokens }, (_, t) => (t * 37) % 512) } = {},
): Promise<Matrix> {
  const noise = new NoiseInputs();
  const tokenIds = input('ids', 'int32', [tokens]);
  const context = layerContext({ training, noise, tokenIds, batchSize, layerIndex });
  const { experts } = new RandomRouter(options).route(input('hidden', 'float64', [tokens, 2]), context);
  expect([...noise.feeds.keys()]).toEqual(training ? ['noise.layer.router'] : []);
  const actual = await run({ experts }, [
    ['ids', ids],
    ['noise.layer.router', randomNumbers(7, tokens * options.numExperts, 0, 1)],
  ]);
  return matrix(actual.experts, options.topK);
}

test.each([true, false])(
  'training %s: distinct experts, every pair of them equally often',
  async (training) => {
    const rows = await chosen({ numExperts: 5, topK: 2 }, training);
    const pairs = new Map<string, number>();
    for (const row of rows) {
      expect(new Set(row).size).toBe(2);
      pairs.set(row.join(), (pairs.get(row.join()) ?? 0) + 1);
    }
    expect(pairs.size).toBe(20);
    // 200 of each are expected, with a standard deviation of 14.
    for (const count of pairs.values()) expect(Math.abs(count - 200)).toBeLessThan(70);
  },
);

test('the noise is all that training looks at: its largest numbers are the choice', async () => {
  const noise = matrix(randomNumbers(7, tokens * 5, 0, 1), 5);
  const rows = await chosen({ numExperts: 5, topK: 5 }, true);
  rows.forEach((row, t) => expect(row).toEqual([0, 1, 2, 3, 4].sort((a, b) => noise[t][b] - noise[t][a])));
});

test('outside training the same text meets the same experts; place, id, layer and seed matter', async () => {
  const options = { numExperts: 5, topK: 2 };
  const one = await chosen(options, false);
  expect(await chosen(options, false)).toEqual(one);
  const same = (rows: Matrix): number =>
    rows.filter((row, t) => row.join() === one[t].join()).length / tokens;
  // Two independent decisions agree once in twenty.
  const shifted = Int32Array.from({ length: tokens }, (_, t) => (t * 37 + 1) % 512);
  expect(same(await chosen(options, false, { ids: shifted }))).toBeLessThan(0.1);
  expect(same(await chosen(options, false, { layerIndex: 1 }))).toBeLessThan(0.1);
  expect(same(await chosen({ ...options, seed: 3 }, false))).toBeLessThan(0.1);
  const repeated = await chosen(options, false, { ids: new Int32Array(tokens), batchSize: 2 });
  expect(repeated.slice(tokens / 2)).toEqual(repeated.slice(0, tokens / 2));
  expect(new Set(repeated.slice(0, 40).map((row) => row.join())).size).toBeGreaterThan(10);
});

test('without token ids outside training: one clear line', () => {
  const hidden = input('hidden', 'float64', [3, 2]);
  expect(() => new RandomRouter({ numExperts: 4, topK: 1 }).route(hidden, layerContext())).toThrow(
    "layer 0 routes by token ids outside training, but its model has none; choose another router than 'random'",
  );
});
