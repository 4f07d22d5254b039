import { expect, test } from 'vitest';
import { layerOf, traceOf } from '../../test/support/routing-trace.js';
import { layerProfile } from './layer-profile.js';

test('top-2 by hand', () => {
  const layer = layerOf('1', 3, [[0, 1], [0, 1], [1, 0], [1, -1]]); // prettier-ignore
  const profile = layerProfile(layer, traceOf([layer], 2));
  expect(profile).toMatchObject({
    layer: '1',
    load: [3, 4, 0],
    dead: [2],
    selectionMass: [3 / 7, 4 / 7, 0],
    meanRunLength: 2,
    switchingRate: 0,
    coOccurrence: [
      [0, 1, 0],
      [1, 0, 0],
      [0, 0, 0],
    ],
  });
  expect(profile.meanMargin).toBeCloseTo(0.55, 6);
  expect(profile.effectiveExperts).toBeCloseTo(
    Math.exp(-(3 / 7) * Math.log(3 / 7) - (4 / 7) * Math.log(4 / 7)),
    12,
  );
});

test('a stratum is measured over the experts it sees and the tokens that come to it', () => {
  const probabilities = [[0, 0, 0.5, 0.5], [0, 0, 0, 0], [0, 0, 0.25, 0.75]]; // prettier-ignore
  const layer = layerOf('1.1', 4, [[2], [-1], [3]], probabilities, 2);
  const profile = layerProfile(layer, traceOf([layer], 3));
  expect(profile).toMatchObject({
    visibleExperts: 2,
    load: [0, 0, 1, 1],
    dead: [],
    balance: 1,
    loadDeviation: 0,
  });
  expect(profile.effectiveExperts).toBeCloseTo(2, 12);
  expect(profile.meanMargin).toBeCloseTo(0.25, 6);
  expect(profile.entropyHistogram.high).toBeCloseTo(Math.log(2), 12);
});

test('top-1 has no co-occurrence', () => {
  const layer = layerOf('1', 2, [[0], [1]]);
  expect(layerProfile(layer, traceOf([layer], 2))).not.toHaveProperty('coOccurrence');
});
