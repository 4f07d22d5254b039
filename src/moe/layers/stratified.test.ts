import { describe, expect, test } from 'vitest';
import { count, randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { matrix, referenceLayer, type Matrix } from '../../../test/support/reference-moe.js';
import { referenceStratified, type ReferenceStrata } from '../../../test/support/reference-stratified.js';
import { gradients, input, sum, type Tensor } from '../../graph/index.js';
import { nameParameters, NoiseInputs, ParameterArena } from '../../nn/index.js';
import type { LayerSizes } from '../sizes.js';
import { stratified, StratifiedLayer, type StratifiedOptions } from './stratified.js';

type Given = Partial<StratifiedOptions> & { strata: number[] };

const create = (given: Given, sizes: Partial<LayerSizes> = {}): StratifiedLayer =>
  stratified.create(stratified.schema.parse({ kind: 'stratified', ...given }), {
    ...layerSizes(),
    ...sizes,
  }) as StratifiedLayer;

interface Scene {
  readonly sizes?: Partial<LayerSizes>;
  readonly hidden?: Matrix;
  readonly mask?: readonly number[];
  readonly training?: boolean;
  readonly places?: ReferenceStrata['places'];
  readonly adjust?: (parameters: Map<string, Float64Array>) => void;
}

const some = matrix(randomNumbers(1, 23 * 4, -1.5, 1.5), 4);

/** Runs the layer and the loops on the same numbers. */
async function both(given: Given, scene: Scene = {}) {
  const { sizes, hidden = some, mask, training = false, places, adjust } = scene;
  const layer = create(given, sizes);
  const parameters = nameParameters(layer, 'float64');
  const data = randomParameters(parameters, 3, 1);
  adjust?.(data);
  const rows = input('hidden', 'float64', [hidden.length, 4]);
  const noise = new NoiseInputs();
  const tokenMask = mask && input('mask', 'float64', [hidden.length]);
  const result = layer.forward(rows, layerContext({ training, noise, tokenMask, layerIndex: 5 }));
  const buffers = Object.fromEntries(
    [...noise.feeds].map(([name, { shape }]) => [name, new Float64Array(count(shape as number[]))]),
  );
  noise.fill(4, 1, buffers);
  const outputs: Record<string, Tensor> = { output: result.output, balance: result.losses[0].value };
  result.records.forEach((record, i) => {
    outputs[`experts ${i}`] = record.experts;
    outputs[`gates ${i}`] = record.gates;
    outputs[`dropped ${i}`] = record.dropped;
  });
  const actual: Record<string, number[]> = await run(outputs, [
    ...data,
    ['hidden', hidden.flat()],
    ['mask', [...(mask ?? [])]],
    ...Object.entries(buffers),
  ]);
  const drawn = given.strata.map((_, i) => {
    const name = `noise.layer.stratum${i}.secondExpert`;
    const { shape } = noise.feeds.get(name) ?? { shape: [hidden.length, 1] };
    return matrix(buffers[name] ?? new Float64Array(hidden.length), shape[1] as number);
  });
  const expected = referenceStratified(
    {
      ...stratified.schema.parse({ kind: 'stratified', ...given }),
      ...layerSizes(),
      ...sizes,
      ...(places && { places }),
    } as ReferenceStrata,
    { hidden, parameters: data, mask },
    training ? drawn : undefined,
  );
  return { layer, result, actual, expected, data };
}

async function expectAgreement(given: Given, scene: Scene = {}) {
  const { actual, expected, result } = await both(given, scene);
  const { mask } = scene;
  const real = (rows: Matrix): number[] => rows.filter((_, t) => mask?.[t] !== 0).flat();
  expect(distance(real(matrix(actual['output'], 4)), real(expected.output))).toBeLessThan(1e-9);
  expect(distance(actual['balance'], [expected.balance])).toBeLessThan(1e-9);
  given.strata.forEach((_, i) => {
    expect(actual[`experts ${i}`], `experts of stratum ${i}`).toEqual(expected.experts[i].flat());
    expect(distance(actual[`gates ${i}`], expected.gates[i].flat()), `gates ${i}`).toBeLessThan(1e-9);
    expect(actual[`dropped ${i}`], `dropped at ${i}`).toEqual([expected.dropped[i]]);
  });
  const passed = some.map((_, t) => expected.experts.filter((rows) => rows[t]?.[0] >= 0).length);
  expect(passed.slice(0, expected.requestedCapacity.length)).toEqual(expected.requestedCapacity);
  expect(result.records.map(({ name }) => name)).toEqual(given.strata.map((_, i) => `5.${i}`));
  return expected;
}

describe('the layer equals the plain loops', () => {
  test.each<[string, Given, Scene?]>([
    ['SMoE-2-6', { strata: [2, 6] }],
    ['three strata', { strata: [3, 2, 3] }],
    ['a first stratum that is most', { strata: [6, 2] }],
    ['one expert in the last stratum', { strata: [3, 1] }],
    ['one expert in every stratum', { strata: [1, 1, 1] }],
    ['top-1', { strata: [2, 4], topK: 1 }],
    ['sigmoid scores', { strata: [2, 4], score: 'sigmoid' }],
    ['weights renormalised', { strata: [2, 2, 2], combineWeights: 'renormalized' }],
    ['residual as released', { strata: [2, 2, 3], residual: 'released' }],
    ['balance over the gates that ran', { strata: [2, 2, 2], balanceOver: 'gatesRun' }],
    [
      'layer norms, biases, GELU',
      { strata: [2, 4] },
      { sizes: { norm: 'layer', bias: true, activation: 'gelu' } },
    ],
    ['sampled second experts', { strata: [3, 5], secondExpert: 'sample' }, { training: true }],
    ['second experts by chance', { strata: [3, 5], secondExpert: 'random' }, { training: true }],
    ['no sampling outside training', { strata: [3, 5], secondExpert: 'sample' }],
    [
      'everything as released',
      {
        strata: [3, 5],
        secondExpert: 'sample',
        combineWeights: 'renormalized',
        residual: 'released',
        balanceOver: 'gatesRun',
        capacityFactor: 1,
      },
      { training: true, places: (tokens, visible) => 2 * Math.ceil(tokens / visible) },
    ],
  ])('%s', async (_name, given, scene) => {
    const { requestedCapacity } = await expectAgreement(given, scene);
    expect(Math.min(...requestedCapacity)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...requestedCapacity)).toBeLessThanOrEqual(given.strata.length);
    await expectAgreement(given, { ...scene, mask: some.map((__, t) => Number(t % 3 !== 1)) });
  });

  test('second experts that are drawn are sometimes not the second best', async () => {
    const options: Given = { strata: [3, 5], secondExpert: 'sample' };
    const plain = await both(options);
    const sampled = await both(options, { training: true });
    expect(sampled.actual['experts 0']).not.toEqual(plain.actual['experts 0']);
    const random = await both({ ...options, secondExpert: 'random' }, { training: true });
    const seconds = matrix(random.actual['experts 0'], 2).map(([, second]) => second);
    expect(seconds).toContain(-1);
    expect(Math.max(...seconds)).toBeGreaterThanOrEqual(0);
  });

  test('evaluation noise is the same in every evaluation', async () => {
    const options: Given = { strata: [3, 5], secondExpert: 'sample' };
    const plain = await both(options);
    const noisy = await both({ ...options, evaluationNoise: true });
    const again = await both({ ...options, evaluationNoise: true });
    expect(noisy.actual).toEqual(again.actual);
    expect(noisy.actual['experts 0']).not.toEqual(plain.actual['experts 0']);
    // First choices are never drawn.
    const firsts = ({ actual }: typeof plain) => matrix(actual['experts 0'], 2).map(([first]) => first);
    expect(firsts(noisy)).toEqual(firsts(plain));
  });
});

describe('capacity', () => {
  const released = (tokens: number, visible: number): number => 2 * Math.ceil(tokens / visible);

  test('places are counted from the tokens at the gate', async () => {
    const given: Given = { strata: [2, 4], capacityFactor: 0.5 };
    const { dropped } = await expectAgreement(given, {
      training: true,
      places: (tokens, visible) => Math.floor(0.5 * released(tokens, visible)),
    });
    expect(dropped[0]).toBeGreaterThan(0);
    await expectAgreement(given, {
      training: true,
      mask: some.map((_, t) => Number(t % 4 !== 2)),
      places: (tokens, visible) => Math.floor(0.5 * released(tokens, visible)),
    });
  });

  test('top-1 has half of the places', async () => {
    const { dropped } = await expectAgreement(
      { strata: [2, 3], topK: 1, capacityFactor: 1 },
      { training: true, places: (tokens, visible) => Math.ceil(tokens / visible) },
    );
    expect(dropped[0]).toBeGreaterThan(0);
  });

  test('evaluation takes a share of the tokens, or drops nothing', async () => {
    const given: Given = { strata: [2, 3], capacityFactor: 0.1, evaluationCapacity: 0.25 };
    const { dropped } = await expectAgreement(given, { places: (tokens) => Math.ceil(0.25 * tokens) });
    expect(dropped[0]).toBeGreaterThan(0);
    expect((await expectAgreement({ ...given, evaluationCapacity: 1 })).dropped).toEqual([0, 0]);
    expect((await expectAgreement({ ...given, evaluationCapacity: null })).dropped).toEqual([0, 0]);
  });

  test('one token has two places', async () => {
    const scene = { training: true, hidden: some.slice(0, 1), places: released };
    expect(released(1, 4)).toBe(2);
    expect(released(5, 2)).toBe(6);
    expect(released(10, 4)).toBe(6);
    expect((await expectAgreement({ strata: [2, 2], capacityFactor: 1 }, scene)).dropped).toEqual([0, 0]);
  });

  test('a token whose choices are all dropped keeps its state and moves on', async () => {
    // Twelve equal tokens, four experts at the first gate: ⌊2 · 0.5 · ⌈12 / 4⌉⌋ = 3 places.
    const hidden = new Array<readonly number[]>(12).fill(some[0]);
    const { actual, expected } = await both(
      { strata: [2, 2], capacityFactor: 0.5 },
      { training: true, hidden, places: (tokens, visible) => Math.ceil(tokens / visible) },
    );
    expect(distance(actual['output'], expected.output.flat())).toBeLessThan(1e-9);
    expect(actual['dropped 0']).toEqual([18]);
    const first = matrix(actual['experts 0'], 2)[11][0];
    expect(expected.requestedCapacity[11]).toBe(first < 2 ? 2 : 1);
    if (first >= 2) expect(matrix(actual['output'], 4)[11]).toEqual([...some[0]]);
  });

  test('only places that tokens compete for leak', () => {
    expect(create({ strata: [2, 2], evaluationCapacity: 0.25 }).leak).toContain('evaluationCapacity');
    expect(create({ strata: [2, 2], evaluationCapacity: 1 }).leak).toBeUndefined();
    expect(create({ strata: [2, 2], capacityFactor: 1 }).leak).toBeUndefined();
  });
});

describe('numbers from the paper', () => {
  /** A layer of 2-2 whose first gate has the logits 2, 1, 0, −1 for every token. */
  const known = (given: Partial<StratifiedOptions> = {}) =>
    both(
      { strata: [2, 2], ...given },
      {
        hidden: [[1, 1, 1, 1]],
        adjust: (data) => {
          data.get('norms.0.weight')!.fill(1);
          [2, 1, 0, -1].forEach((logit, e) =>
            data.get('gates.0.classifier.weight')!.fill(logit / 4, 4 * e, 4 * e + 4),
          );
        },
      },
    );

  test('probabilities, choices and weights', async () => {
    const raw = await known();
    expect(raw.actual['experts 0']).toEqual([0, 1]);
    expect(distance(raw.actual['gates 0'], [0.643914, 0.236883])).toBeLessThan(1e-6);
    const divided = await known({ combineWeights: 'renormalized' });
    expect(distance(divided.actual['gates 0'], [0.731059, 0.268941])).toBeLessThan(1e-6);
    // The next gate is the second, where the token ends.
    expect(raw.actual['experts 1'].every((e) => e >= 2)).toBe(true);
    expect(raw.expected.requestedCapacity).toEqual([2]);
  });

  test('uniform gates and choices have a balance of 1', async () => {
    const { actual } = await both(
      { strata: [4] },
      {
        hidden: [
          [1, 0, 0, 0],
          [0, 1, 0, 0],
          [0, 0, 1, 0],
          [0, 0, 0, 1],
        ],
        adjust: (data) => {
          data.get('norms.0.weight')!.fill(1);
          data.get('gates.0.classifier.weight')!.fill(0);
          for (let e = 0; e < 4; e++) data.get('gates.0.classifier.weight')![5 * e] = 1;
        },
      },
    );
    expect(actual['balance'][0]).toBeCloseTo(1, 9);
  });

  test('one stratum is a plain top-2 layer on the normalised stream', async () => {
    const { actual, data } = await both({ strata: [5] });
    const scale = [...data.get('norms.0.weight')!];
    const normed = some.map((row) => {
      const size = Math.sqrt(row.reduce((total, x) => total + x * x, 0) / 4 + 1e-6);
      return row.map((x, i) => (x / size) * scale[i]);
    });
    const parameters = new Map(data).set('router.classifier.weight', data.get('gates.0.classifier.weight')!);
    const options = {
      numExperts: 5,
      topK: 2,
      hiddenSize: 4,
      intermediateSize: 6,
      activation: 'relu',
    } as const;
    const plain = referenceLayer(options, { hidden: normed, parameters });
    const expected = plain.output.flatMap((row, t) => row.map((value, i) => value + some[t][i]));
    expect(distance(actual['output'], expected)).toBeLessThan(1e-9);
  });

  test('all first choices in the last stratum: one gate is passed, the others stay unused', async () => {
    const { actual, expected, layer } = await both(
      { strata: [2, 2] },
      {
        hidden: some.map((row) => row.map(Math.abs)),
        adjust: (data) => {
          data.get('norms.0.weight')!.fill(1);
          [-1, -1, 2, 1].forEach((weight, e) =>
            data.get('gates.0.classifier.weight')!.fill(weight, 4 * e, 4 * e + 4),
          );
        },
      },
    );
    expect(expected.requestedCapacity).toEqual(some.map(() => 1));
    expect(actual['experts 1'].every((e) => e === -1)).toBe(true);
    expect(distance(actual['output'], expected.output.flat())).toBeLessThan(1e-9);
    const parameters = nameParameters(layer, 'float64');
    const rows = input('hidden', 'float64', [some.length, 4]);
    const { output } = layer.forward(rows, layerContext());
    const gate = parameters.get('gates.1.classifier.weight')!.tensor;
    const data = randomParameters(parameters, 3, 1);
    data.get('norms.0.weight')!.fill(1);
    [-1, -1, 2, 1].forEach((weight, e) =>
      data.get('gates.0.classifier.weight')!.fill(weight, 4 * e, 4 * e + 4),
    );
    const { gradient } = await run({ gradient: gradients(sum(output), [gate])[0] }, [
      ...data,
      ['hidden', some.flatMap((row) => row.map(Math.abs))],
    ]);
    expect(gradient.every((value) => value === 0)).toBe(true);
  });
});

test('starts in ±1/√fanIn, biases too, or as the model does', () => {
  const spread = (given: Partial<StratifiedOptions>): Record<string, number> => {
    const parameters = create({ strata: [4, 12], ...given }, { hiddenSize: 16, bias: true }).parameters();
    const { views } = ParameterArena.allocate(parameters).initialize(parameters, 1);
    return Object.fromEntries([...views].map(([name, data]) => [name, Math.max(...data.map(Math.abs))]));
  };
  const uniform = spread({});
  for (const [name, fanIn] of [
    ['gates.0.classifier.weight', 16],
    ['experts.up', 16],
    ['experts.upBias', 16],
    ['experts.down', 6],
    ['experts.downBias', 6],
  ] as const) {
    expect(uniform[name] * Math.sqrt(fanIn), name).toBeGreaterThan(0.9);
    expect(uniform[name] * Math.sqrt(fanIn), name).toBeLessThanOrEqual(1.000001);
  }
  expect(uniform['norms.1.weight']).toBe(1);
  const model = spread({ initialization: 'model' });
  // The model around draws from a normal with σ = 1.
  expect(model['experts.up']).toBeGreaterThan(2);
  expect(model['experts.upBias']).toBe(0);
});

test('dropout meets what each expert says, and leaves the stream alone', async () => {
  const layer = create({ strata: [3] }, { dropout: 0.5 });
  const parameters = nameParameters(layer, 'float64');
  const data = randomParameters(parameters, 3, 1);
  const hidden = input('hidden', 'float64', [some.length, 4]);
  const added = async (training: boolean, kept: readonly number[]): Promise<number[]> => {
    const { output } = layer.forward(hidden, layerContext({ training }));
    const stream = some.flat();
    const noise = Array.from({ length: some.length * 2 * 4 }, (_, i) => kept[i % kept.length]);
    const actual = await run({ output }, [
      ...data,
      ['hidden', stream],
      ['noise.layer.stratum0.output', noise],
    ]);
    return actual.output.map((value, i) => value - stream[i]);
  };
  const whole = await added(false, [0]);
  expect(Math.max(...whole.map(Math.abs))).toBeGreaterThan(0.1);
  expect(
    distance(
      await added(true, [0.9]),
      whole.map((value) => 2 * value),
    ),
  ).toBeLessThan(1e-9);
  expect(await added(true, [0.1])).toEqual(whole.map(() => 0));
  // Every expert has its own: what the first and what the second add make the whole.
  const parts = await Promise.all([
    added(true, [0.9, 0.9, 0.9, 0.9, 0, 0, 0, 0]),
    added(true, [0, 0, 0, 0, 0.9, 0.9, 0.9, 0.9]),
  ]);
  expect(Math.max(...parts[1].map(Math.abs))).toBeGreaterThan(0.01);
  expect(
    distance(
      parts[0].map((value, i) => value + parts[1][i]),
      whole.map((value) => 2 * value),
    ),
  ).toBeLessThan(1e-9);
});

test('the balance loss is averaged over the sparse layers of the model', () => {
  const layer = create({ strata: [2, 2], balanceCoefficient: 0.6 }, { numSparseLayers: 4 });
  nameParameters(layer);
  const { losses, records } = layer.forward(input('hidden', 'float32', [3, 4]), layerContext());
  expect(losses.map(({ name, coefficient }) => [name, coefficient])).toEqual([['balance', 0.15]]);
  expect(records.map(({ losses: own }) => own[0].name)).toEqual(['balance', 'balance']);
});

test('refuses a decision of others', () => {
  const layer = create({ strata: [2, 2] });
  nameParameters(layer);
  const hidden = input('hidden', 'float32', [3, 4]);
  const routingOverride = {
    experts: input('experts', 'int64', [3, 1]),
    gates: input('gates', 'float32', [3, 1]),
  };
  expect(() => layer.forward(hidden, layerContext({ routingOverride, layerIndex: 2 }))).toThrow(
    'layer 2 is stratified',
  );
});

test.each([
  ['strata', { strata: [] }, '>=1'],
  ['0', { strata: [0, 4] }, '>=1'],
  ['topK', { strata: [2], topK: 3 }, 'Invalid input'],
  ['combineWeights', { strata: [2], topK: 1, combineWeights: 'renormalized' }, 'use raw, or topK 2'],
  ['secondExpert', { strata: [2], topK: 1, secondExpert: 'sample' }, 'no second expert to sample'],
  ['evaluationNoise', { strata: [2], evaluationNoise: true }, 'choose sample or random'],
  ['evaluationCapacity', { strata: [2], evaluationCapacity: 2 }, '<=1'],
])('refuses a bad %s', (path, given, message) => {
  const { error } = stratified.schema.safeParse({ kind: 'stratified', ...given });
  expect(error?.issues).toHaveLength(1);
  expect(String(error!.issues[0].path.at(-1))).toBe(path);
  expect(error!.issues[0].message).toContain(message);
});
