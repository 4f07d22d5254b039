import { expect, test } from 'vitest';
import {
  expertOutputs,
  layerOf,
  makeExperts,
  randomOrder,
  takeRows,
  type MadeExperts,
} from '../../../test/support/experts.js';
import { restoreExpert, type DesignRole } from '../../checkpoints/index.js';
import { energyOf } from '../align.js';
import type { LayerCompression } from '../method.js';
import { createMethod, methodSchema } from './index.js';

const compress = (options: object, layer: MadeExperts, perExpert: number): Promise<LayerCompression> =>
  createMethod(methodSchema.parse({ kind: 'resmoe', ...options })).compress(layer, { budget: { perExpert } });

const roles: readonly DesignRole[] = ['gate', 'gateBias', 'up', 'upBias', 'down'];
const shuffled = makeExperts({
  numExperts: 5,
  hiddenSize: 12,
  intermediateSize: 24,
  roles,
  spread: 0.5,
  shuffled: true,
});

test.each(['up', 'svd'] as const)(
  '%s: every expert computes what its restored form does when all is kept',
  async (residual) => {
    const { layer: small, report } = await compress({ residual }, shuffled, 1);
    expect(report.error).toBe(0);
    shuffled.designs.forEach((design, expert) => {
      const wanted = expertOutputs(design, shuffled);
      const scale = Math.max(...wanted.map(Math.abs));
      expertOutputs(restoreExpert(small, expert), shuffled).forEach((value, i) =>
        expect(Math.abs(value - wanted[i]) / scale).toBeLessThan(1e-6),
      );
    });
  },
);

test.each(['up', 'svd'] as const)('%s of the residual loses less than of the expert', async (residual) => {
  for (const perExpert of [0.25, 0.5]) {
    const resmoe = await compress({ residual }, shuffled, perExpert);
    const direct = await createMethod(methodSchema.parse({ kind: 'direct', compressor: residual })).compress(
      shuffled,
      { budget: { perExpert } },
    );
    expect(resmoe.report.error).toBeLessThan(direct.report.error);
    const average = await compress({ residual, centre: { kind: 'mean' } }, shuffled, perExpert);
    expect(resmoe.report.error).toBeLessThan(average.report.error);
  }
});

test('of residuals without structure, pruning keeps more than factors of the same size', async () => {
  const up = await compress({ residual: 'up' }, shuffled, 0.25);
  const svd = await compress({ residual: 'svd' }, shuffled, 0.25);
  expect(up.report.error).toBeLessThan(svd.report.error);
});

test('the report: error, energy and redundancy are what can be computed from what is stored', async () => {
  const { layer: small, report } = await compress({ residual: 'svd' }, shuffled, 0.4);
  const energies = shuffled.designs.map(energyOf);
  expect(report.energy).toBeCloseTo(energies.reduce((sum, energy) => sum + energy, 0) / 5, 9);
  expect(report.redundancy!.energies).toEqual(energies);
  expect(report.objective!.at(-1)! / report.energy).toBeCloseTo(report.redundancy!.ratio, 9);
  expect(report.truncationExcess).toBeLessThan(1e-3);
  // Each restored row is near one row of the expert, and no other: their distances add up to the error.
  let error = 0;
  shuffled.designs.forEach((design, expert) => {
    const restored = restoreExpert(small, expert);
    const taken = new Set<number>();
    for (let row = 0; row < 24; row++) {
      const distances = Array.from({ length: 24 }, (_, other) => {
        let total = 0;
        for (let i = 0; i < 38; i++) total += (restored[row * 38 + i] - design[other * 38 + i]) ** 2;
        return total;
      });
      const nearest = distances.indexOf(Math.min(...distances));
      taken.add(nearest);
      error += distances[nearest] / 5;
    }
    expect(taken.size).toBe(24);
  });
  expect(error / report.error).toBeCloseTo(1, 4);
});

test('permuting the neurons of experts first changes nothing that is stored but the order of rows', async () => {
  const designs = shuffled.designs.map((design, expert) =>
    expert === 0 ? design : takeRows(design, randomOrder(24, 70 + expert)),
  );
  const before = await compress({}, shuffled, 0.25);
  const after = await compress({}, layerOf(designs, 12, shuffled.blocks), 0.25);
  // The first expert gives the order of the centre, and it is the same.
  expect(after.layer).toEqual(before.layer);
  expect(after.report.error).toBe(before.report.error);
  expect(after.report.objective).toEqual(before.report.objective);
});

test('a layer fraction pays for the centre first', async () => {
  const method = createMethod(methodSchema.parse({ kind: 'resmoe' }));
  const whole = await method.compress(shuffled, { budget: { layer: 0.45 } });
  const matched = await compress({}, shuffled, 0.25);
  expect(whole.layer.experts).toEqual(matched.layer.experts);
  await expect(method.compress(shuffled, { budget: { layer: 0.2 } })).rejects.toThrow(
    'a centre alone takes 1/5 of the layer',
  );
});
