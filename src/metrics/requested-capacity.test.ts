import { expect, test } from 'vitest';
import { requestedCapacity, uniformRequestedCapacity } from './requested-capacity.js';

test('counts the strata with a choice', () => {
  const strata = [
    { experts: [0, 1, -1, -1, -1, -1], topK: 2 },
    { experts: [3, -1, 2], topK: 1 },
  ];
  expect(requestedCapacity(strata)).toEqual([2, 0, 1]);
  expect(requestedCapacity([])).toEqual([]);
});

test.each([
  [[4, 4, 4, 4], 25 / 12],
  [[4, 12], 1.25],
  [[12, 4], 1.75],
  [[4, 4, 8], 1.5833333333],
  [[8, 4, 4], 2],
  [[8, 8], 1.5],
  [[16], 1],
])('uniform gates over %j expect %d', (sizes, expected) => {
  expect(uniformRequestedCapacity(sizes)).toBeCloseTo(expected, 8);
});
