import { afterAll, describe, expect, test } from 'vitest';
import { buildModel, KeptExperts, type BuiltModel } from '../../../test/support/kept-experts.js';
import { CachedWriter, Programs, type Passes } from '../../decode/index.js';
import type { LanguageModel } from '../../models/index.js';
import { openSplitModel } from '../engine/split-model.js';
import { PagedExpertStore } from '../store/paged-store.js';
import { createPolicy } from '../store/policies/index.js';
import { dequantise, quantise } from './blocks.js';
import { QuantisedExperts } from './quantised-experts.js';
import { RoundedExperts, type RoundingOptions } from './rounded-experts.js';

const released: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const release of released.reverse()) await release();
});

const decoder = {
  hiddenSize: 64,
  numLayers: 2,
  numHeads: 2,
  intermediateSize: 48,
  contextLength: 32,
  positions: 'rotary',
  initialization: { scale: 4, embedding: 0.5 },
  sparse: { every: 1, numExperts: 6, topK: 2, router: { kind: 'softmax' } },
};

async function serve(built: BuiltModel, rounding: RoundingOptions, slots: number): Promise<Passes> {
  const cold = new QuantisedExperts(new RoundedExperts(new KeptExperts(built), rounding), built.model);
  const numExperts = cold.layers.map((layer) => layer.numExperts);
  const store = new PagedExpertStore(cold, { slots, policy: createPolicy('lru', { numExperts }) });
  const passes = await openSplitModel(built.model, built.weights, store);
  released.push(
    () => store.close(),
    () => passes.release(),
  );
  return passes;
}

/** Scores of a text of several tokens at once, then of single ones. */
async function scoresOf({ model }: BuiltModel, passes: Passes): Promise<number[][]> {
  const texts = await new CachedWriter(model as LanguageModel, passes).begin([[3, 1, 4, 1, 5]]);
  const all = [[...texts.scores[0]]];
  for (let token = 0; token < 4; token++) {
    await texts.append([token]);
    all.push([...texts.scores[0]]);
  }
  return all;
}

/** The same model with every matrix of an expert as the numbers that its blocks stand for. */
function rounded(built: BuiltModel, options: RoundingOptions): BuiltModel {
  const weights = new Map(built.weights);
  for (const [name, data] of weights) {
    if (!/experts\.(gate|up|down)$/.test(name)) continue;
    const { shape } = [...built.model.parameters()].find(([parameter]) => parameter === name)![1];
    const [count, inSize, outSize] = shape as [number, number, number];
    const size = inSize * outSize;
    const all = new Float32Array(data.length);
    for (let expert = 0; expert < count; expert++) {
      const matrix = data.subarray(expert * size, (expert + 1) * size);
      const blocks = quantise(matrix, { ...options, outSize, inSize, layout: 'inOut' });
      all.set(dequantise(blocks, 'inOut'), expert * size);
    }
    weights.set(name, all);
  }
  return { model: built.model, weights };
}

function distance(a: readonly number[][], b: readonly number[][]): number {
  const [flat, other] = [a.flat(), b.flat()];
  const difference = flat.reduce((sum, value, i) => sum + (value - other[i]) ** 2, 0);
  return Math.sqrt(difference / other.reduce((sum, value) => sum + value ** 2, 0));
}

describe.each([
  ['gated', { ...decoder, activation: 'swiglu' }],
  ['with biases', { ...decoder, activation: 'gelu', bias: true }],
])('%s experts', (_, options) => {
  const built = buildModel(options);

  test.each([
    { bits: 8, mode: 'symmetric' },
    { bits: 4, mode: 'symmetric' },
    { bits: 4, mode: 'asymmetric' },
  ] as const)('$bits bits, $mode: the model of the numbers that the blocks stand for', async (rounding) => {
    const whole = new Programs(rounded(built, rounding).weights);
    released.push(() => whole.release());
    const expected = await scoresOf(built, whole);
    const scores = await scoresOf(built, await serve(built, rounding, Infinity));
    // Inputs of experts are rounded to 8 bits.
    expect(distance(scores, expected)).toBeLessThan(0.02);
    expect(await scoresOf(built, await serve(built, rounding, 1))).toEqual(scores);
  });
});

test('experts that are compressed already are refused', () => {
  const built = buildModel({
    ...decoder,
    sparse: { ...decoder.sparse, experts: { kind: 'factorised', rank: 4 } },
  });
  const cold = new KeptExperts(built, false);
  expect(
    () => new QuantisedExperts(new RoundedExperts(cold, { bits: 4, mode: 'symmetric' }), built.model),
  ).toThrow(/blocks\.0\.feedForward\.experts holds experts that are not ordinary matrices/);
});
