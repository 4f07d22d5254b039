import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { matrix } from '../../../test/support/reference-moe.js';
import { withShared } from '../../../test/support/reference-shared.js';
import { input } from '../../graph/index.js';
import { Module, nameParameters, NoiseInputs } from '../../nn/index.js';
import { createSparseLayer, sparseSchema } from '../config.js';
import type { LayerSizes } from '../sizes.js';

const create = (options: object, sizes: Partial<LayerSizes> = {}) =>
  createSparseLayer(sparseSchema.parse(options), { ...layerSizes(), ...sizes });

const parametersOf = (layer: Module): number =>
  [...layer.parameters().values()].reduce((total, { size }) => total + size, 0);

describe('fine-grained experts (DeepSeekMoE, arXiv 2401.06066 §3.1)', () => {
  const coarse = { numExperts: 4, topK: 2, intermediateSize: 24 };

  test.each([2, 3, 4])('%d times as many of a fraction of the width cost the same', (m) => {
    for (const activation of ['relu', 'swiglu'] as const) {
      const fine = { numExperts: 4 * m, topK: 2 * m, intermediateSize: 24 / m };
      const [a, b] = [coarse, fine].map((options) =>
        create({ ...options, experts: { kind: 'feedForward', activation } }),
      );
      const routers = (layer: Module): number => layer.parameters().get('router.classifier.weight')!.size;
      expect(parametersOf(a) - routers(a)).toBe(parametersOf(b) - routers(b));
      expect(a.cost().parameters - routers(a)).toBe(b.cost().parameters - routers(b));
      expect(a.cost().flops - 2 * routers(a)).toBe(b.cost().flops - 2 * routers(b));
      expect(routers(b)).toBe(m * routers(a));
    }
  });

  test('a part of an expert each, all chosen alike, compute what the whole expert does', async () => {
    // Expert e of the coarse layer is cut into 2e and 2e + 1, whose router rows equal its own.
    const rows = matrix(randomNumbers(1, 9 * 4), 4);
    const whole = create({ numExperts: 3, topK: 1, intermediateSize: 6 });
    const parts = create({ numExperts: 6, topK: 2, intermediateSize: 3 });
    const data = randomParameters(nameParameters(whole, 'float64'), 3, 1);
    const twice = matrix(data.get('router.classifier.weight')!, 4).flatMap((row) => [...row, ...row]);
    const halves = (weights: readonly (readonly number[])[], half: number): number[][] =>
      weights.map((row) => row.slice(3 * half, 3 * half + 3));
    const up = [0, 1, 2].flatMap((e) => {
      const weight = matrix(data.get('experts.up')!.subarray(24 * e, 24 * e + 24), 6);
      return [...halves(weight, 0), ...halves(weight, 1)];
    });
    const split = new Map<string, readonly number[] | Float64Array>([
      ['router.classifier.weight', twice],
      ['experts.up', up.flat()],
      // Halves of the rows follow each other already.
      ['experts.down', data.get('experts.down')!],
    ]);
    const hidden = input('hidden', 'float64', [9, 4]);
    const feed = ['hidden', rows.flat()] as const;
    const a = await run({ output: whole.forward(hidden, layerContext()).output }, [...data, feed]);
    nameParameters(parts, 'float64');
    const b = await run({ output: parts.forward(hidden, layerContext()).output }, [...split, feed]);
    // Twice as many logits halve every probability.
    expect(
      distance(
        b.output.map((value) => 2 * value),
        a.output,
      ),
    ).toBeLessThan(1e-12);
  });
});

describe('shared experts', () => {
  const options = { numExperts: 3, topK: 2 };

  test.each([
    ['shared', { sharedIntermediateSize: 5 }],
    ['shared and weighed', { sharedIntermediateSize: 5, sharedGate: true }],
  ])('%s: what every token adds, beside the chosen experts', async (_name, shared) => {
    const rows = matrix(randomNumbers(1, 9 * 4), 4);
    const [plain, both] = [create(options), create({ ...options, ...shared })];
    const data = randomParameters(nameParameters(both, 'float64'), 3, 1);
    const hidden = input('hidden', 'float64', [9, 4]);
    const feeds = [...data, ['hidden', rows.flat()] as const];
    const actual = await run({ output: both.forward(hidden, layerContext()).output }, feeds);
    nameParameters(plain, 'float64');
    const alone = await run({ output: plain.forward(hidden, layerContext()).output }, feeds);
    const expected = withShared(matrix(alone.output, 4), { hidden: rows, parameters: data }).flat();
    expect(distance(actual.output, expected)).toBeLessThan(1e-12);
    expect(distance(actual.output, alone.output)).toBeGreaterThan(0.1);
  });

  test('cost what they hold, for every token', () => {
    const cost = (given: object) => create({ ...options, ...given }).cost().parameters;
    expect(cost({ sharedIntermediateSize: 5 }) - cost({})).toBe(2 * 4 * 5);
    expect(cost({ sharedIntermediateSize: 5, sharedGate: true }) - cost({})).toBe(2 * 4 * 5 + 4);
  });

  test('have names of their own, and the dropout of the dense layers', () => {
    const layer = create({ ...options, sharedIntermediateSize: 5, sharedGate: true }, { dropout: 0.1 });
    expect([...layer.parameters().keys()]).toEqual([
      'router.classifier.weight',
      'experts.up',
      'experts.down',
      'shared.up.weight',
      'shared.down.weight',
      'sharedGate.weight',
    ]);
    nameParameters(layer);
    const noise = new NoiseInputs();
    layer.forward(input('hidden', 'float32', [2, 4]), layerContext({ training: true, noise }));
    expect([...noise.feeds.keys()]).toEqual(['noise.layer.shared.activation']);
  });
});

test.each([
  ['sharedGate', { sharedGate: true }, 'there is no shared expert to weigh; set sharedIntermediateSize'],
  [
    'dispatch',
    { router: { kind: 'expertChoice' }, dispatch: { kind: 'capacity' } },
    'expert choice gives out the places itself; use dispatch dropless',
  ],
])('refuses a %s that does not fit', (path, options, message) => {
  const { error } = sparseSchema.safeParse({ numExperts: 4, ...options });
  expect(error?.issues.map((issue) => [issue.path, issue.message])).toEqual([[[path], message]]);
});

test('adaptive clustering needs a sparse layer before it', () => {
  const options = { numExperts: 4, every: 2, router: { kind: 'adaptiveClustering' } };
  expect(() => create(options, { layerIndex: 1, numLayers: 3, numStackSparseLayers: 1 })).toThrow(
    'but there is only one: every 2 of 3 layers; set more numLayers, or a smaller every',
  );
  expect(() => create(options, { layerIndex: 1, numLayers: 4, numStackSparseLayers: 2 })).not.toThrow();
});
