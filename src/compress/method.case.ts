/** What every compression method must do. */
import { describe, expect, test } from 'vitest';
import type { z } from 'zod';
import {
  expertOutputs,
  layerOf,
  makeExperts,
  randomCalibration,
  randomOrder,
  takeRows,
  type MadeExperts,
} from '../../test/support/experts.js';
import { tensorsPerExpert } from '../../test/support/compressed-layer.js';
import { compressedSize, originalSize, packLayer, restoreExpert } from '../checkpoints/index.js';
import { energyOf } from './align.js';
import type { Budget } from './budget.js';
import type { LayerCompression, LayerExperts } from './method.js';
import { createMethod, methodSchema } from './methods/index.js';

/** Settings of a method before defaults. */
type MethodInput = z.input<typeof methodSchema>;

/** What is particular to a method. */
export interface MethodTraits {
  /** Parts that are kept or not: a share is rounded to them. */
  readonly unit: 'weight' | 'weightOfOutput' | 'rank' | 'neuron' | 'expert';
  /** Whether a centre is stored besides. */
  readonly hasCentre?: boolean;
  /** Whether experts that are the same are stored without loss in the space of one. */
  readonly merges?: boolean;
  /** Whether that holds whatever the order of their neurons. */
  readonly aligns?: boolean;
}

/** Runs the suite on the method that some settings describe. */
export function methodConformance(options: MethodInput, traits: MethodTraits): void {
  const method = createMethod(methodSchema.parse(options));
  const { unit, hasCentre = false, merges = false, aligns = false } = traits;
  const compress = (layer: LayerExperts, budget: Budget): Promise<LayerCompression> =>
    method.compress(layer, { budget, seed: 5 });
  const sizes = { numExperts: 8, hiddenSize: 10, intermediateSize: 16 };
  const withStatistics = (layer: MadeExperts): MadeExperts => ({
    ...layer,
    router: Float32Array.from({ length: layer.numExperts * layer.hiddenSize }, (_, i) => Math.sin(7 * i)),
    calibration: randomCalibration(layer),
  });
  const plain = withStatistics(makeExperts({ ...sizes, spread: 0.4, seed: 1 }));
  const gated = withStatistics({
    ...makeExperts({
      ...sizes,
      roles: ['gate', 'gateBias', 'up', 'upBias', 'down'],
      spread: 0.4,
      shuffled: true,
      seed: 2,
    }),
    outputBiases: Array.from({ length: 8 }, (_, expert) => Float32Array.from({ length: 10 }, () => expert)),
  });
  const kinds = [
    ['plain', plain],
    ['gated with biases', gated],
  ] as const;

  describe(JSON.stringify(options), () => {
    test.each(kinds)('%s experts: the whole budget is the identity', async (_, layer) => {
      const { layer: small, report } = await compress(layer, { perExpert: 1 });
      expect(report.error).toBeLessThan(1e-9 * report.energy);
      layer.designs.forEach((design, expert) => {
        const restored = restoreExpert(small, expert);
        expectClose(expertOutputs(restored, layer), expertOutputs(design, layer), 1e-4);
        if (layer.outputBiases)
          expect(small.outputBiases![small.expertOf[expert]]).toEqual(layer.outputBiases[expert]);
      });
    });

    const budgets: readonly Budget[] = [{ perExpert: 0.25 }, { perExpert: 0.6 }, { layer: 0.5 }];
    describe.each(kinds)('%s experts', (_, layer) => {
      test.each(budgets)('%o: stored parameters and bytes are what was asked for', async (budget) => {
        const { layer: small, report } = await compress(layer, budget);
        const parameters = countWithoutOutputBiases(small);
        const total = layer.designs.reduce((sum, design) => sum + design.length, 0);
        const extra = hasCentre && 'perExpert' in budget ? total / 8 : 0;
        const allowed = ('layer' in budget ? budget.layer : budget.perExpert) * total + extra;
        const width = total / 8 / 16;
        const slack = {
          weight: 8 * width * 16 * 0.02,
          weightOfOutput: (8 * (16 * (layer.blocks.length - 1) + 10)) / 2 + 1,
          rank: 8 * (width + 16) * layer.blocks.length,
          neuron: 8 * width,
          expert: total / 8,
        }[unit];
        const rounding = unit.startsWith('weight') ? slack : 1e-6 * total;
        expect(parameters).toBeLessThanOrEqual(allowed + rounding);
        expect(parameters).toBeGreaterThan(allowed - slack);
        const packed = packLayer(small, 'F32', tensorsPerExpert(small));
        const bytes = packed.tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
        expect(bytes).toBe(compressedSize(small, 4).bytes);
        expect(compressedSize(small, 4).parameters).toBeLessThan(originalSize(small, 4).parameters);
        expect(report.energy).toBeCloseTo(
          layer.designs.reduce((sum, each) => sum + energyOf(each), 0) / 8,
          6,
        );
        expect(report.error).toBeGreaterThan(0);
        expect(Number.isFinite(report.error)).toBe(true);
      });

      test('every expert is restored, finite and of its size', async () => {
        const { layer: small } = await compress(layer, { perExpert: 0.3 });
        expect(small.expertOf).toHaveLength(8);
        layer.designs.forEach((design, expert) => {
          const restored = restoreExpert(small, expert);
          expect(restored).toHaveLength(design.length);
          expect(restored.every(Number.isFinite)).toBe(true);
        });
      });

      test('more of the budget leaves less of the error', async () => {
        const errors: number[] = [];
        for (const perExpert of [0.25, 0.5, 0.75, 1])
          errors.push((await compress(layer, { perExpert })).report.error);
        for (let i = 1; i < errors.length; i++) expect(errors[i]).toBeLessThan(errors[i - 1]);
      });

      test('the same twice gives the same bits', async () => {
        expect(await compress(layer, { perExpert: 0.3 })).toEqual(await compress(layer, { perExpert: 0.3 }));
      });
    });

    test('a share that stores nothing is refused, naming the least that does', async () => {
      await expect(compress(plain, { perExpert: 1e-6 })).rejects.toThrow(/at least|more than/);
      await expect(compress(plain, { perExpert: 1.5 })).rejects.toThrow('at most 1, not 1.5');
    });

    test('a weight that is no number is refused', async () => {
      const designs = plain.designs.map((design) => design.slice());
      designs[3][5] = NaN;
      const broken = { ...withStatistics(layerOf(designs, 10, plain.blocks)) };
      await expect(compress(broken, { perExpert: 0.25 })).rejects.toThrow(
        'blocks.0: expert 3 has a weight that is not a finite number',
      );
    });

    if (method.needsCalibration) {
      test('without a text it says that it needs one', async () => {
        const { calibration: _, ...layer } = plain;
        await expect(compress(layer, { perExpert: 0.5 })).rejects.toThrow(/^blocks\.0: .* text/);
      });
    }

    if (merges) {
      test(`equal experts${aligns ? ' in any order of neurons' : ''} are stored without loss`, async () => {
        for (const layer of [plain, gated]) {
          const [design] = layer.designs;
          const copies = layer.designs.map((_, expert) =>
            aligns ? takeRows(design, randomOrder(16, expert)) : design.slice(),
          );
          const same = withStatistics(layerOf(copies, 10, layer.blocks));
          const { layer: small, report } = await compress(same, { perExpert: 0.25 });
          expect(report.error).toBeLessThan(1e-9 * report.energy);
          copies.forEach((_, expert) => {
            expectClose(
              expertOutputs(restoreExpert(small, expert), layer),
              expertOutputs(design, layer),
              1e-4,
            );
          });
        }
      });
    }

    if (aligns) {
      test('the order of neurons before makes no difference', async () => {
        const designs = plain.designs.map((design, expert) => takeRows(design, randomOrder(16, 50 + expert)));
        const before = await compress(plain, { perExpert: 0.3 });
        const after = await compress(
          { ...plain, ...pickReader(layerOf(designs, 10, plain.blocks)) },
          { perExpert: 0.3 },
        );
        expect(after.report.error / before.report.error).toBeCloseTo(1, 4);
      });
    }
  });
}

const pickReader = ({ readDesign }: MadeExperts): Pick<MadeExperts, 'readDesign'> => ({ readDesign });

function countWithoutOutputBiases(layer: LayerCompression['layer']): number {
  const { outputBiases: _, ...rest } = layer;
  return compressedSize(rest, 4).parameters;
}

function expectClose(actual: readonly number[], wanted: readonly number[], tolerance: number): void {
  const largest = Math.max(...wanted.map(Math.abs));
  actual.forEach((value, i) => expect(Math.abs(value - wanted[i])).toBeLessThan(tolerance * largest));
}
