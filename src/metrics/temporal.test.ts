import { expect, test } from 'vitest';
import { changedShare, runningAverage, runStatistics } from './temporal.js';

test('runs end with their sequence and at tokens without a choice', () => {
  // Row 0: 1 1 2 | row 1: 2 2 . 2
  const labels = [1, 1, 2, 2, 2, -1, 2];
  const rows = [0, 0, 0, 1, 1, 1, 1];
  // Runs: 11, 2, 22, 2.
  expect(runStatistics(labels, rows)).toEqual({ meanRunLength: 6 / 4, switchingRate: 1 / 3 });
  expect(runStatistics([], [])).toEqual({ meanRunLength: 0, switchingRate: 0 });
});

test('changed share counts what has a label before or after', () => {
  expect(changedShare([0, 1, 2, -1, -1], [0, 2, -1, 1, -1])).toBe(0.75);
  expect(changedShare([], [])).toBe(0);
  expect(() => changedShare([1], [])).toThrow('1 and 0 labels');
});

test('the running average starts at its first value', () => {
  expect(runningAverage([1])).toBe(1);
  expect(runningAverage([1, 0, 0.5])).toBeCloseTo(0.8 * 0.8 + 0.2 * 0.5, 12);
  expect(runningAverage([])).toBe(0);
});
