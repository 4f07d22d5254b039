import { expect, test } from 'vitest';
import { formatSpread, pairedDifference, spread } from './statistics.js';

test('spread is mean and sample standard deviation', () => {
  expect(spread([1, 2, 3, 4])).toEqual({ mean: 2.5, sd: Math.sqrt(5 / 3), count: 4 });
  expect(spread([7])).toEqual({ mean: 7, sd: null, count: 1 });
  expect(() => spread([])).toThrow(RangeError);
});

test('a paired difference uses the common seeds, and its spread is that of the differences', () => {
  const values = new Map([
    [1, 5],
    [2, 7],
    [4, 100],
  ]);
  const baseline = new Map([
    [2, 6],
    [1, 4],
    [3, 0],
  ]);
  expect(pairedDifference(values, baseline)).toEqual({ mean: 1, sd: 0, count: 2 });
  expect(pairedDifference(values, new Map([[9, 1]]))).toBeUndefined();
});

test('numbers are printed with their spread and, as differences, with their sign', () => {
  expect(formatSpread({ mean: 1.23456, sd: 0.0101, count: 3 }, 4)).toBe('1.2346 ± 0.0101');
  expect(formatSpread({ mean: 0.5, sd: null, count: 1 }, 2, true)).toBe('+0.50');
  expect(formatSpread({ mean: -0.5, sd: 0.1, count: 2 }, 1, true)).toBe('-0.5 ± 0.1');
});
