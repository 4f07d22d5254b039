import { expect, test } from 'vitest';
import { layerOf, traceOf } from '../../test/support/routing-trace.js';
import { RandomStream, streamKey } from '../nn/index.js';
import { layerAgreement } from './layer-agreement.js';

const draw = (name: string, below: number, tokens = 4000): number[] => {
  const random = new RandomStream(streamKey(3, name));
  return Array.from({ length: tokens }, () => random.integer(below));
};
const single = (labels: readonly number[]): number[][] => labels.map((label) => [label]);

test('a renamed copy agrees wholly, an independent layer at chance, and distances are kept apart', () => {
  const first = draw('first', 4);
  const renamed = first.map((label) => [2, 0, 3, 1][label]);
  const layers = [
    layerOf('0', 4, single(first)),
    layerOf('1', 4, single(renamed)),
    layerOf('2', 4, single(draw('third', 4))),
  ];
  const { statistics, routerStability } = layerAgreement(traceOf(layers, 100));
  const { matched, matchedChance, mutualInformation, mutualInformationChance, cramersV } = statistics;
  expect(matched.map[0][1]).toBe(1);
  expect(matched.map[1][0]).toBe(1);
  expect(statistics.raw.map[0][1]).toBe(0);
  expect(mutualInformation.map[0][1]).toBeCloseTo(1, 9);
  expect(cramersV.map[0][1]).toBeCloseTo(1, 6);
  expect(statistics.pearson.map[0][1]).toBeCloseTo(1, 9);
  expect(statistics.canonical.map[0][1]).toBeCloseTo(1, 6);
  // Four even labels: a quarter agrees by chance, a little more under the best renaming.
  expect(matchedChance.map[0][1]).toBeGreaterThan(0.25);
  expect(matchedChance.map[0][1]).toBeLessThan(0.3);
  expect(Math.abs(matched.map[0][2] - matchedChance.map[0][2])).toBeLessThan(0.02);
  expect(mutualInformationChance.map[0][1]).toBeLessThan(0.005);
  expect(statistics.canonical.map[0][2]).toBeLessThan(0.06);
  expect(matched.byDistance).toEqual([(1 + matched.map[1][2]) / 2, matched.map[0][2]]);
  expect(matched.adjacent).toBe(matched.byDistance[0]);
  expect(matched.all).toBeCloseTo((1 + matched.map[1][2] + matched.map[0][2]) / 3, 12);
  expect(routerStability[0]).toEqual({ from: '0', to: '1', mean: 0, running: 0 });
  // Independent fourths: 2 · 1/4 · 3/4 of the pairs change sides.
  expect(routerStability[1].mean).toBeCloseTo(0.375, 1);
});

test('the same seed shuffles alike, another does not', () => {
  const layers = [layerOf('0', 4, single(draw('a', 4, 99))), layerOf('1', 4, single(draw('b', 4, 99)))];
  const chance = (seed: number): number =>
    layerAgreement(traceOf(layers, 33), { seed }).statistics.matchedChance.map[0][1];
  expect(chance(1)).toBe(chance(1));
  expect(chance(1)).not.toBe(chance(2));
});

test('layers of different size, and tokens that one of them passes over', () => {
  const a = draw('a', 3, 300);
  const layers = [
    layerOf('1.0', 3, single(a)),
    layerOf('1.1', 2, single(a.map((label) => (label === 2 ? -1 : 1 - label)))),
  ];
  const { statistics } = layerAgreement(traceOf(layers, 30));
  expect(statistics.matched.map[0][1]).toBe(1);
  expect(statistics.mutualInformation.map[1][0]).toBeCloseTo(1, 9);
});

test('a single layer has no pairs', () => {
  const { statistics, routerStability } = layerAgreement(traceOf([layerOf('0', 2, single([0, 1]))], 2));
  expect(statistics.matched).toMatchObject({ map: [[1]], adjacent: 0, all: 0, byDistance: [] });
  expect(routerStability).toEqual([]);
});
