import { expect, test } from 'vitest';
import { requestedCapacity } from './requested-capacity.js';

test('counts the strata with a choice', () => {
  const strata = [
    { experts: [0, 1, -1, -1, -1, -1], topK: 2 },
    { experts: [3, -1, 2], topK: 1 },
  ];
  expect(requestedCapacity(strata)).toEqual([2, 0, 1]);
  expect(requestedCapacity([])).toEqual([]);
});
