import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { leafGradientError } from '../../../test/support/leaf-gradients.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { matrix } from '../../../test/support/reference-moe.js';
import { referenceProductKey } from '../../../test/support/reference-memories.js';
import { gradients, input, multiply, sum } from '../../graph/index.js';
import { nameParameters, ParameterArena } from '../../nn/index.js';
import type { LayerSizes } from '../sizes.js';
import { productKey, ProductKeyMemory, type ProductKeyOptions } from './product-key-memory.js';

const create = (options: Partial<ProductKeyOptions>, sizes: Partial<LayerSizes> = {}): ProductKeyMemory =>
  new ProductKeyMemory(productKey.schema.parse({ kind: 'productKey', ...options }), {
    ...layerSizes(),
    ...sizes,
  });

const hidden = matrix(randomNumbers(1, 11 * 4), 4);

async function outputOf(
  options: Partial<ProductKeyOptions>,
  adjust: (data: Map<string, Float64Array>) => void = () => undefined,
) {
  const layer = create(options);
  const parameters = nameParameters(layer, 'float64');
  const data = randomParameters(parameters, 3, 1);
  adjust(data);
  const x = input('hidden', 'float64', [hidden.length, 4]);
  const { output } = layer.forward(x, layerContext());
  const actual = await run({ output }, [...data, ['hidden', hidden.flat()]]);
  return { output: actual.output, data };
}

describe('the best of n² by two stages', () => {
  test.each([
    { heads: 1, subKeys: 8, topK: 1 },
    { heads: 4, subKeys: 8, topK: 5 },
    { heads: 3, subKeys: 16, topK: 8 },
    { heads: 2, subKeys: 5, topK: 5 },
    // More than a half has keys, and more than there are values.
    { heads: 2, subKeys: 3, topK: 7 },
    { heads: 2, subKeys: 2, topK: 9 },
    { heads: 2, subKeys: 1, topK: 4 },
  ])('$heads heads, $subKeys keys a half, best $topK, equal a search through all of them', async (given) => {
    for (const activation of ['relu', 'softmax'] as const) {
      const { output, data } = await outputOf({ ...given, activation });
      const expected = referenceProductKey({ ...given, activation }, { hidden, parameters: data });
      expect(distance(output, expected.output.flat())).toBeLessThan(1e-10);
      const sizes = expected.places.flat().map((list) => list.length);
      expect(new Set(sizes)).toEqual(new Set([Math.min(given.topK, given.subKeys ** 2)]));
    }
  });
});

describe('the dense path', () => {
  test('collapses its heads into one with the summed keys', async () => {
    const four = await outputOf({ heads: 4, subKeys: 3, path: 'dense' });
    const summed = (keys: Float64Array): Float64Array =>
      Float64Array.from({ length: 6 }, (_, i) =>
        [0, 1, 2, 3].reduce((total, head) => total + keys[6 * head + i], 0),
      );
    const one = await outputOf({ heads: 1, subKeys: 3, path: 'dense' }, (data) => {
      data.get('firstKeys')!.set(summed(four.data.get('firstKeys')!));
      data.get('secondKeys')!.set(summed(four.data.get('secondKeys')!));
      data.get('values')!.set(four.data.get('values')!);
    });
    expect(distance(one.output, four.output)).toBeLessThan(1e-12);
  });

  test('is taken automatically where n ≤ topK, and only there', async () => {
    const same = async (topK: number, path: 'dense' | 'sparse'): Promise<boolean> => {
      const options = { heads: 2, subKeys: 4, topK };
      const [a, b] = await Promise.all([
        outputOf({ ...options, path: 'auto' }),
        outputOf({ ...options, path }),
      ]);
      return distance(a.output, b.output) < 1e-12;
    };
    expect([await same(4, 'dense'), await same(4, 'sparse')]).toEqual([true, false]);
    expect([await same(3, 'dense'), await same(3, 'sparse')]).toEqual([false, true]);
  });
});

describe('gradients', () => {
  // 9 values are weighed in one matrix, 36 are copied.
  test.each([3, 6])('of values that several heads and tokens read add up: %d² values', async (subKeys) => {
    const layer = create({ heads: 3, subKeys, topK: 2 });
    const parameters = nameParameters(layer, 'float64');
    const rows = input('hidden', 'float64', [6, 4]);
    const weights = input('weights', 'float64', [6, 4]);
    const { output } = layer.forward(rows, layerContext());
    const data = randomParameters(parameters, 3, 1);
    // Every head has the keys of the first.
    for (const name of ['firstKeys', 'secondKeys']) {
      const keys = data.get(name)!;
      keys.copyWithin(2 * subKeys, 0, 2 * subKeys).copyWithin(4 * subKeys, 0, 2 * subKeys);
    }
    const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
    const numbers = new Map<string, Float64Array>([
      ...data,
      ['hidden', randomNumbers(6, 24)],
      ['weights', randomNumbers(7, 24)],
    ]);
    expect(await leafGradientError(sum(multiply(output, weights)), leaves, numbers)).toBeLessThan(1e-8);
  });

  test.each([2, 4])('of values that nobody reads are exactly zero: %d of 16 are read', async (topK) => {
    const layer = create({ heads: 1, subKeys: 4, topK });
    const parameters = nameParameters(layer, 'float64');
    const rows = input('hidden', 'float64', [1, 4]);
    const values = parameters.get('values')!.tensor;
    const [gradient] = gradients(sum(layer.forward(rows, layerContext()).output), [values]);
    const data = randomParameters(parameters, 5, 1);
    const x = [0.5, 1, 0.7, 0.3];
    const actual = await run({ gradient }, [...data, ['hidden', x]]);
    const { places } = referenceProductKey(
      { heads: 1, subKeys: 4, topK, activation: 'relu' },
      { hidden: [x], parameters: data },
    );
    const touched = matrix(actual.gradient, 4).flatMap((row, i) =>
      row.some((value) => value !== 0) ? [i] : [],
    );
    expect(touched.length).toBeGreaterThan(0);
    for (const place of touched) expect(places[0][0]).toContain(place);
  });
});

test.each([
  ['depthScaled', Math.sqrt(2 / (3 * 64)), Math.sqrt(2 / (3 * 64))],
  ['depthScaledByValues', Math.sqrt(2 / (3 * 64)), Math.sqrt(2 / 3) / 20],
  ['original', 1 / Math.sqrt(3 * 32), 1 / Math.sqrt(64)],
  ['model', 0.3, 0.1],
] as const)('starts as %s says', (initialization, keys, values) => {
  const rule = { kind: 'normal', scale: 1, standardDeviation: 0.3 } as const;
  const layer = create(
    { heads: 2, subKeys: 20, initialization },
    { hiddenSize: 64, initialization: rule, outputInitialization: { ...rule, standardDeviation: 0.1 } },
  );
  const parameters = layer.parameters();
  const { views } = ParameterArena.allocate(parameters).initialize(parameters, 1);
  const spread = (name: string): number => {
    const data = views.get(name)!;
    return Math.sqrt(data.reduce((total, x) => total + x * x, 0) / data.length);
  };
  expect(spread('firstKeys') / keys).toBeCloseTo(1, 1);
  expect(spread('secondKeys') / keys).toBeCloseTo(1, 1);
  expect(spread('values') / values).toBeCloseTo(1, 1);
});

test.each([
  ['querySize', { querySize: 5 }, 'querySize 5 has no halves'],
  ['softmaxOver', { softmaxOver: 'head' }, 'does nothing with activation relu'],
  ['softmaxOver', { softmaxOver: 'head', activation: 'softmax', path: 'dense' }, 'path dense sums the heads'],
  [
    'softmaxOver',
    { softmaxOver: 'head', activation: 'softmax', path: 'auto', topK: 8 },
    'path auto is dense with subKeys 8 ≤ topK 8',
  ],
  ['subKeys', { subKeys: 0 }, '>=1'],
])('refuses a bad %s', (path, options, message) => {
  const { error } = productKey.schema.safeParse({ kind: 'productKey', subKeys: 8, ...options });
  expect(error?.issues).toHaveLength(1);
  expect(error!.issues[0].path).toEqual([path]);
  expect(error!.issues[0].message).toContain(message);
});

test('refuses an input without halves', () => {
  expect(() => create({ subKeys: 2 }, { hiddenSize: 5 })).toThrow('hiddenSize 5 has no halves');
  expect(() => create({ subKeys: 2, querySize: 4 }, { hiddenSize: 5 })).not.toThrow();
});
