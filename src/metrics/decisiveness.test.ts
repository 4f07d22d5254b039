import { expect, test } from 'vitest';
import { decisiveness, effectiveExperts, entropy, histogram } from './decisiveness.js';

test('entropy of counts and of shares', () => {
  expect(entropy([1, 1, 1, 1])).toBeCloseTo(Math.log(4), 12);
  expect(entropy([0.75, 0.25, 0])).toBeCloseTo(0.75 * Math.log(4 / 3) + 0.25 * Math.log(4), 12);
  expect(entropy([0, 0])).toBe(0);
});

test('effective experts: as many as are used evenly', () => {
  expect(effectiveExperts([5, 5, 0, 0])).toBeCloseTo(2, 12);
  expect(effectiveExperts([9, 0])).toBe(1);
  expect(effectiveExperts([0, 0])).toBe(0);
});

test('a histogram counts its borders once and what lies outside at its ends', () => {
  expect(histogram([0, 0.24, 0.25, 0.5, 1, 1.2, -1], 0, 1, 4)).toEqual({
    low: 0,
    high: 1,
    counts: [3, 1, 1, 2],
  });
  expect(histogram([3], 0, 0, 2).counts).toEqual([1, 0]);
});

test('entropy and margin of two tokens by hand', () => {
  const made = decisiveness([0.5, 0.5, 0, 0.1, 0.9, 0], 3, 4);
  const second = -(0.1 * Math.log(0.1) + 0.9 * Math.log(0.9));
  expect(made.meanEntropy).toBeCloseTo((Math.log(2) + second) / 2, 12);
  expect(made.relativeEntropy).toBeCloseTo((Math.log(2) + second) / 2 / Math.log(3), 12);
  expect(made.meanMargin).toBeCloseTo(0.4, 12);
  expect(made.marginHistogram.counts).toEqual([1, 0, 0, 1]);
  expect(made.entropyHistogram).toEqual({ low: 0, high: Math.log(3), counts: [0, 1, 1, 0] });
});

test('a single expert is always certain', () => {
  expect(decisiveness([1, 1], 1)).toMatchObject({ meanEntropy: 0, relativeEntropy: 0, meanMargin: 1 });
});
