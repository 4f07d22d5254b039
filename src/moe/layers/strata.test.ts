import { expect, test } from 'vitest';
import { expectedRequestedCapacity, strataOffsets, visibleExperts, visitProbabilities } from './strata.js';

test.each([
  // Stratified MoE, arXiv 2305.02176: the splits of its tables.
  [[4, 4, 4, 4], 25 / 12],
  [[4, 12], 1.25],
  [[12, 4], 1.75],
  [[4, 4, 8], 19 / 12],
  [[8, 4, 4], 2],
  [[8, 8], 1.5],
  [[7], 1],
])('uniform gates send a token through %j in %f visits', (strata, expected) => {
  expect(expectedRequestedCapacity(strata)).toBeCloseTo(expected, 12);
});

test('equal strata give the harmonic number of their count', () => {
  for (let count = 1; count <= 6; count++) {
    const harmonic = Array.from({ length: count }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b, 0);
    expect(expectedRequestedCapacity(new Array<number>(count).fill(3))).toBeCloseTo(harmonic, 12);
  }
});

test('visits agree with the recursion and with tokens that walk at random', () => {
  const strata = [2, 3, 1, 4];
  const recursion = (i: number): number => {
    const visible = strata.slice(i).reduce((a, b) => a + b, 0);
    let value = 1;
    for (let j = i; j < strata.length - 1; j++) value += (strata[j] / visible) * recursion(j + 1);
    return value;
  };
  expect(expectedRequestedCapacity(strata)).toBeCloseTo(recursion(0), 12);
  // Every path through the strata, weighted.
  const visits = [0, 0, 0, 0];
  const walk = (gate: number, share: number): void => {
    if (gate === strata.length) return;
    visits[gate] += share;
    const visible = strata.slice(gate).reduce((a, b) => a + b, 0);
    for (let j = gate; j < strata.length; j++) walk(j + 1, (share * strata[j]) / visible);
  };
  walk(0, 1);
  visitProbabilities(strata).forEach((share, i) => expect(share).toBeCloseTo(visits[i], 12));
});

test('a gate sees its own stratum and all later ones', () => {
  expect(strataOffsets([4, 4, 8])).toEqual([0, 4, 8]);
  expect(visibleExperts([4, 4, 8])).toEqual([16, 12, 8]);
});
