import { expect, test } from 'vitest';
import { layerContext } from '../../../test/support/moe-context.js';
import { run } from '../../../test/support/numbers.js';
import { matrix, type Matrix } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { routerConformance, type RouterSizes } from '../router.case.js';
import { HashRouter, type HashOptions } from './hash.js';

const vocabSize = 23;

/** Experts of every id: `[vocabSize][topK]`. */
async function tableOf(options: HashOptions): Promise<Matrix> {
  const ids = input('ids', 'int32', [options.vocabSize]);
  const hidden = input('hidden', 'float64', [options.vocabSize, 2]);
  const { experts } = new HashRouter(options).route(hidden, layerContext({ tokenIds: ids }));
  const actual = await run({ experts }, [
    ['ids', Int32Array.from({ length: options.vocabSize }, (_, id) => id)],
  ]);
  return matrix(actual.experts, options.topK);
}

/** A token id for a row of numbers, equal for equal rows. */
const idOf = (row: readonly number[]): number =>
  Math.floor(Math.abs(row.reduce((a, b) => a + b, 0)) * 97) % vocabSize;

const tables = new Map<string, Matrix>();
for (const numExperts of [1, 6]) {
  for (const topK of [1, 2, 3, 6].filter((k) => k <= numExperts)) {
    tables.set(`${numExperts}/${topK}`, await tableOf({ numExperts, topK, vocabSize }));
  }
}

routerConformance({
  name: 'hash',
  create: (sizes) => new HashRouter({ ...sizes, vocabSize }),
  surroundings: (hidden) => ({
    context: { tokenIds: input('ids', 'int32', [hidden.length]) },
    feeds: [['ids', Int32Array.from(hidden, idOf)]],
  }),
  reference: ({ numExperts, topK }: RouterSizes, { hidden }) => {
    const table = tables.get(`${numExperts}/${topK}`)!;
    const experts = hidden.map((row) => [...table[idOf(row)]]);
    return {
      experts,
      gates: experts.map((row) => row.map(() => 1 / topK)),
      probabilities: experts.map((row) =>
        Array.from({ length: numExperts }, (_, expert) => (row.includes(expert) ? 1 / topK : 0)),
      ),
      losses: {},
    };
  },
  permuteExperts: () => new Map(),
  skip: {
    'an expert that nobody chose gets no gradient from the gates': 'it has no parameters',
    'equal scores go to the lowest index': 'there are no scores',
    'the names of the experts do not matter': 'experts have no parameters here: the table names them',
    'noise is for training only': 'there is no noise',
    'the backward pass sees the noise of the forward pass': 'there is no noise',
  },
});

test.each([
  { numExperts: 4, topK: 1, vocabSize: 64 },
  { numExperts: 6, topK: 3, vocabSize: 100 },
  { numExperts: 5, topK: 5, vocabSize: 3 },
])('$vocabSize ids, top-$topK of $numExperts: balanced columns of distinct experts', async (options) => {
  const table = await tableOf(options);
  for (const row of table) {
    expect(new Set(row).size).toBe(options.topK);
    for (const expert of row) expect(expert).toBeLessThan(options.numExperts);
  }
  for (let column = 0; column < options.topK; column++) {
    const load = new Array<number>(options.numExperts).fill(0);
    for (const row of table) load[row[column]] += 1;
    expect(Math.max(...load) - Math.min(...load)).toBeLessThanOrEqual(1);
  }
});

test('the seed makes the table, and ids next to each other are not sent round in order', async () => {
  const options = { numExperts: 4, topK: 2, vocabSize: 64 };
  const [one, again, other] = [
    await tableOf(options),
    await tableOf(options),
    await tableOf({ ...options, seed: 1 }),
  ];
  expect(again).toEqual(one);
  expect(other).not.toEqual(one);
  const steps = new Set(one.slice(1).map(([expert], i) => (expert - one[i][0] + 4) % 4));
  expect(steps.size).toBeGreaterThan(2);
  const pairs = new Set(one.map((row) => row.join()));
  expect(pairs.size).toBeGreaterThan(8);
});

test('without token ids: one clear line', () => {
  const router = new HashRouter({ numExperts: 4, topK: 1, vocabSize });
  const hidden = input('hidden', 'float64', [3, 2]);
  expect(() => router.route(hidden, layerContext({ layerIndex: 5 }))).toThrow(
    "layer 5 routes by token ids, but its model has none; choose another router than 'hash'",
  );
});
