import { expect, test } from 'vitest';
import { coOccurrence, loadDeviation, selectionMass } from './selection.js';

test('load deviation is in percentage points', () => {
  // 60 % and 20 % twice around 33.3 %.
  expect(loadDeviation([3, 1, 1])).toBeCloseTo(
    Math.sqrt((26.6666666667 ** 2 + 2 * 13.3333333333 ** 2) / 3),
    8,
  );
  expect(loadDeviation([4, 4])).toBe(0);
  expect(loadDeviation([0, 0])).toBe(0);
});

test('selection mass sums gates, not choices', () => {
  expect(selectionMass([0, 1, 1, -1], [0.5, 0.25, 0.25, 9], 3)).toEqual([0.5, 0.5, 0]);
  expect(selectionMass([-1], [1], 2)).toEqual([0, 0]);
});

test('co-occurrence: ordered pairs of each token, no diagonal, rows over their sums', () => {
  // Tokens {0, 1, 2}, {0, 1}, {2}.
  const experts = [0, 1, 2, 1, 0, -1, 2, -1, -1];
  expect(coOccurrence(experts, 3, 4)).toEqual([
    [0, 2 / 3, 1 / 3, 0],
    [2 / 3, 0, 1 / 3, 0],
    [0.5, 0.5, 0, 0],
    [0, 0, 0, 0],
  ]);
});
