import { describe, expect, test } from 'vitest';
import {
  contingency,
  cramersV,
  indicatorCorrelation,
  matchedAgreement,
  normalizedMutualInformation,
  pairDisagreement,
  rawAgreement,
} from './contingency.js';

const identity = [[4, 0], [0, 4]]; // prettier-ignore
const renamed = [[0, 4], [4, 0]]; // prettier-ignore
const independent = [[2, 2], [2, 2]]; // prettier-ignore
const leaning = [[3, 1], [1, 3]]; // prettier-ignore

test('counts pairs and leaves out tokens without a choice', () => {
  expect(contingency([0, 1, -1, 1, 2], [1, 1, 0, -1, 0], 3, 2)).toEqual([[0, 1], [0, 1], [1, 0]]); // prettier-ignore
  expect(() => contingency([0], [0, 1], 1, 2)).toThrow('1 and 2 labels');
});

test('agreement: raw counts equal names, matched the best renaming', () => {
  expect(rawAgreement(renamed)).toBe(0);
  expect(matchedAgreement(renamed)).toBe(1);
  expect([rawAgreement(leaning), matchedAgreement(leaning)]).toEqual([0.75, 0.75]);
  expect(matchedAgreement(independent)).toBe(0.5);
  // Three labels against two: the third has no partner.
  expect(matchedAgreement([[5, 0], [0, 3], [2, 0]])).toBe(0.8); // prettier-ignore
  expect([rawAgreement([[0]]), matchedAgreement([[0]])]).toEqual([0, 0]);
});

test('normalised mutual information by hand', () => {
  expect(normalizedMutualInformation(identity)).toBeCloseTo(1, 12);
  expect(normalizedMutualInformation(renamed)).toBeCloseTo(1, 12);
  expect(normalizedMutualInformation(independent)).toBeCloseTo(0, 12);
  // I = 3/4 log 3/2 + 1/4 log 1/2; both entropies are log 2.
  expect(normalizedMutualInformation(leaning)).toBeCloseTo(
    (0.75 * Math.log(1.5) + 0.25 * Math.log(0.5)) / Math.log(2),
    12,
  );
  // One side merges two labels of the other: I = log 2, entropies log 2 and (3/2) log 2.
  expect(normalizedMutualInformation([[4, 0, 0], [0, 2, 2]])).toBeCloseTo(2 / 2.5, 12); // prettier-ignore
  expect(normalizedMutualInformation([[7]])).toBe(0);
});

describe("Cramér's V", () => {
  test('by hand on a 2 × 2 table', () => {
    // χ² = 8 · 0.5² = 2, φ² = 0.25, less 1/7; the limit is 2 − 1/7 − 1.
    expect(cramersV(leaning)).toBeCloseTo(Math.sqrt((0.25 - 1 / 7) / (1 - 1 / 7)), 12);
  });

  test('1 for a renaming, 0 for independence and for one label', () => {
    expect(cramersV(renamed)).toBeCloseTo(1, 12);
    expect(cramersV(independent)).toBe(0);
    expect(cramersV([[5, 0], [3, 0]])).toBe(0); // prettier-ignore
  });

  test('labels that never occur change nothing', () => {
    expect(cramersV([[3, 1, 0], [1, 3, 0], [0, 0, 0]])).toBeCloseTo(cramersV(leaning), 12); // prettier-ignore
  });
});

test('correlation of indicators', () => {
  expect(indicatorCorrelation(renamed)).toBeCloseTo(1, 12);
  expect(indicatorCorrelation(independent)).toBe(0);
  // φ of a 2 × 2 table: (3·3 − 1·1) / 16.
  expect(indicatorCorrelation(leaning)).toBeCloseTo(0.5, 12);
  // A third label that never occurs correlates with nothing: two thirds of the above.
  expect(indicatorCorrelation([[3, 1, 0], [1, 3, 0], [0, 0, 0]])).toBeCloseTo(1 / 3, 12); // prettier-ignore
});

test('pair disagreement equals the count over all pairs', () => {
  const a = [0, 0, 1, 1, 2, 0, 2];
  const b = [1, 1, 1, 0, 0, 2, 2];
  let apart = 0;
  let pairs = 0;
  for (let i = 0; i < a.length; i++) {
    for (let j = i + 1; j < a.length; j++) {
      pairs++;
      if ((a[i] === a[j]) !== (b[i] === b[j])) apart++;
    }
  }
  expect(pairDisagreement(contingency(a, b, 3, 3))).toBeCloseTo(apart / pairs, 12);
  expect(pairDisagreement(renamed)).toBe(0);
  expect(pairDisagreement([[1]])).toBe(0);
});
