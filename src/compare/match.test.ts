import { describe, expect, test } from 'vitest';
import { LanguageModel, languageModelSchema, sizeOfModel } from '../models/index.js';
import { closestSize, matchVariant } from './match.js';

/** WT-S of σ-MoE without its backbone's relative positions, which all variants share. */
const backbone = {
  vocabSize: 8000,
  hiddenSize: 412,
  numLayers: 16,
  numHeads: 10,
  headSize: 41,
  contextLength: 256,
  positions: 'learned',
  norm: 'layer',
  intermediateSize: 2053,
};

function sizeWith(options: object): ReturnType<typeof sizeOfModel> {
  const parsed = languageModelSchema.parse({ ...backbone, ...options });
  return sizeOfModel(new LanguageModel({ ...parsed, vocabSize: backbone.vocabSize }));
}

describe('closestSize', () => {
  test('is the nearest whole number on either side, and the smaller of two', () => {
    expect(closestSize((n) => 10 * n, 44)).toBe(4);
    expect(closestSize((n) => 10 * n, 46)).toBe(5);
    expect(closestSize((n) => 10 * n, 45)).toBe(4);
    expect(closestSize((n) => n * n, 1_000_003)).toBe(1000);
    expect(closestSize((n) => 10 * n, 3, 2)).toBe(2);
  });

  test('is what trying every size finds', () => {
    for (let target = 1; target < 200; target++) {
      const measure = (n: number): number => 3 * n * n + 2 * n + 5;
      const all = Array.from({ length: 50 }, (_, i) => i + 1);
      const distance = (n: number): number => Math.abs(measure(n) - target);
      const best = all.reduce((a, b) => (distance(b) < distance(a) ? b : a));
      expect(closestSize(measure, target)).toBe(best);
    }
  });

  test('asks a few times only', () => {
    let calls = 0;
    closestSize((n) => (calls++, n), 1_000_000);
    expect(calls).toBeLessThan(50);
  });
});

describe('matchVariant', () => {
  test("finds σ-MoE's dense width: 2053 for 16 experts of 128 at width 412 (its §7 rule)", () => {
    const sparse = { numExperts: 16, topK: 4, intermediateSize: 128 };
    const target = sizeWith({ sparse });
    const report = matchVariant(
      'dense',
      [{ path: 'model.intermediateSize', multipleOf: 1, min: 1 }],
      (sizes) =>
        sizeWith({ feedForwardBias: true, intermediateSize: sizes['model.intermediateSize'] ?? 2053 }),
      { measure: 'parameters', target: target.parameters, tolerance: 0.01 },
    );
    expect(report.sizes).toEqual({ 'model.intermediateSize': 2053 });
    expect(Math.abs(report.difference)).toBeLessThan(1e-5);
    // 2dF + F + d against 2d·N_E·G + d·N_E: 7 parameters a layer.
    expect(target.parameters - report.reached).toBe(16 * (1_694_144 - 1_694_137));
  });

  test('matches active parameters and FLOPs, by multiples', () => {
    const dense = sizeWith({});
    for (const measure of ['activeParameters', 'flops'] as const) {
      const target = measure === 'flops' ? dense.forwardFlopsPerToken : dense.activeParameters;
      const { sizes, difference } = matchVariant(
        'top4',
        [{ path: 'model.sparse.intermediateSize', multipleOf: 4, min: 1 }],
        (given) =>
          sizeWith({
            sparse: { numExperts: 8, topK: 4, intermediateSize: given['model.sparse.intermediateSize'] },
          }),
        { measure, target, tolerance: 0.01 },
      );
      const width = sizes['model.sparse.intermediateSize'];
      expect(width % 4).toBe(0);
      // Four experts of a fourth of the width; the router takes a little of it.
      expect(width).toBeGreaterThan(500);
      expect(width).toBeLessThanOrEqual(513);
      expect(Math.abs(difference)).toBeLessThan(0.001);
    }
  });

  test('sizes that are freed together keep their proportion', () => {
    const { sizes } = matchVariant(
      'both',
      [
        { path: 'a', multipleOf: 3, min: 1 },
        { path: 'b', multipleOf: 1, min: 1 },
      ],
      ({ a, b }) => ({ ...sizeWith({}), parameters: 10 * a + b }),
      { measure: 'parameters', target: 310, tolerance: 0.01 },
    );
    expect(sizes).toEqual({ a: 30, b: 10 });
  });

  test('refuses in one line what is too far from the baseline', () => {
    const coarse = (): unknown =>
      matchVariant(
        'coarse',
        [{ path: 'model.intermediateSize', multipleOf: 1000, min: 1 }],
        ({ 'model.intermediateSize': width }) => ({ ...sizeWith({}), parameters: width }),
        { measure: 'parameters', target: 1400, tolerance: 0.01 },
      );
    expect(coarse).toThrow(
      "variant coarse: model.intermediateSize 1000 comes closest with 1000 parameters, -28.57 % from the baseline's 1400 (tolerance 1.00 %); free another size",
    );
    const fixed = (): unknown =>
      matchVariant('fixed', [], () => ({ ...sizeWith({}), parameters: 5 }), {
        measure: 'parameters',
        target: 4,
        tolerance: 0.2,
      });
    expect(fixed).toThrow(
      /variant fixed: its sizes give 5 parameters, 25\.00 % .* free a size, or say "match": false/,
    );
  });

  test('refuses a size that changes nothing', () => {
    const constant = (): unknown =>
      matchVariant('same', [{ path: 'train.steps', multipleOf: 1, min: 1 }], () => sizeWith({}), {
        measure: 'flops',
        target: 1e12,
        tolerance: 0.01,
      });
    expect(constant).toThrow(
      'variant same: train.steps does not change forward FLOPs per token; free another size',
    );
  });
});
