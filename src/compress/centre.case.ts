/** What every centre must do. */
import { describe, expect, test } from 'vitest';
import { layerOf, makeExperts, randomOrder, takeRows, type MadeExperts } from '../../test/support/experts.js';
import { designBlocks } from '../checkpoints/index.js';
import { createKind } from '../moe/index.js';
import { alignedDistance, energyOf } from './align.js';
import type { Alignment } from './centre.js';
import { centreKinds, centreSchema } from './centres/index.js';

/** Finds the centre that some settings describe. */
export function findCentre(options: unknown, layer: MadeExperts): Promise<Alignment> {
  return createKind(centreKinds, centreSchema.parse(options), undefined).find(layer);
}

/** @param aligns whether the order of an expert's neurons makes no difference to it. */
export function centreConformance(kind: string, aligns: boolean): void {
  describe(`centre ${kind}`, () => {
    const gated = makeExperts({
      numExperts: 3,
      hiddenSize: 5,
      intermediateSize: 13,
      roles: ['gate', 'gateBias', 'up', 'upBias', 'down'],
      spread: 0.3,
      shuffled: true,
    });

    test('permutations are bijections, and the report is what its own centre and orders give', async () => {
      const { centre, permutations, objective, energies, residuals } = await findCentre({ kind }, gated);
      expect(centre).toHaveLength(13 * 17);
      gated.designs.forEach((design, expert) => {
        expect([...permutations[expert]].sort((a, b) => a - b)).toEqual([...Array(13).keys()]);
        expect(energies[expert]).toBe(energyOf(design));
        expect(residuals[expert]).toBe(alignedDistance(centre, design, permutations[expert]));
      });
      const mean = residuals.reduce((sum, residual) => sum + residual, 0) / 3;
      expect(objective.at(-1)).toBeCloseTo(mean, 10);
      for (let i = 1; i < objective.length; i++) expect(objective[i]).toBeLessThanOrEqual(objective[i - 1]);
    });

    test('one expert is its own centre, and so are equal ones', async () => {
      for (const numExperts of [1, 3]) {
        const [design] = gated.designs;
        const layer = layerOf(
          Array.from({ length: numExperts }, () => design),
          5,
          gated.blocks,
        );
        const { centre, residuals } = await findCentre({ kind }, layer);
        expect(residuals).toEqual(residuals.map(() => 0));
        expect(centre).toEqual(design);
      }
    });

    test('neurons that are twins, or nothing but zeros, are no obstacle', async () => {
      const blocks = designBlocks({ hiddenSize: 2, roles: ['up', 'down'] });
      const twins = Float32Array.from([1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8]);
      const layer = layerOf([twins, twins.slice(), new Float32Array(16)], 2, blocks);
      const { permutations, residuals } = await findCentre({ kind }, layer);
      for (const order of permutations) expect(new Set(order).size).toBe(4);
      expect(residuals.every(Number.isFinite)).toBe(true);
    });

    test('the same twice gives the same bits', async () => {
      expect(await findCentre({ kind }, gated)).toEqual(await findCentre({ kind }, gated));
    });

    if (!aligns) return;

    test('a shuffle of equal experts is undone without a trace', async () => {
      const [design] = gated.designs;
      const shuffled = [1, 2, 3].map((key) => takeRows(design, randomOrder(13, key)));
      const { residuals } = await findCentre({ kind }, layerOf(shuffled, 5, gated.blocks));
      expect(residuals).toEqual([0, 0, 0]);
    });

    test('the order of neurons before makes no difference', async () => {
      const before = await findCentre({ kind }, gated);
      const orders = gated.designs.map((_, expert) => randomOrder(13, 100 + expert));
      const designs = gated.designs.map((design, expert) => takeRows(design, orders[expert]));
      const after = await findCentre({ kind }, layerOf(designs, 5, gated.blocks));
      expect(after.objective.at(-1)).toBeCloseTo(before.objective.at(-1)!, 4);
      // The first expert gives the order, which is therefore its own.
      designs.forEach((design, expert) => {
        const aligned = takeRows(design, after.permutations[expert]);
        const expected = takeRows(
          takeRows(gated.designs[expert], before.permutations[expert]),
          Int32Array.from(orders[0], (row) => before.permutations[0].indexOf(row)),
        );
        const reordered = takeRows(aligned, invert(after.permutations[0]));
        expect(reordered).toEqual(expected);
      });
    });

    test('any expert may give the first order, if there is one', async () => {
      const from = await findCentre({ kind, initialExpert: 2 }, gated);
      expect(from.residuals.every(Number.isFinite)).toBe(true);
      await expect(findCentre({ kind, initialExpert: 3 }, gated)).rejects.toThrow(
        'initialExpert is 3, but blocks.0 has experts 0 to 2',
      );
    });
  });
}

function invert(order: Int32Array): Int32Array {
  const inverse = new Int32Array(order.length);
  order.forEach((row, i) => (inverse[row] = i));
  return inverse;
}
