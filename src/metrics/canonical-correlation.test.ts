import { expect, test } from 'vitest';
import { RandomStream, streamKey } from '../nn/index.js';
import { canonicalCorrelations } from './canonical-correlation.js';

const random = (name: string): (() => number) => {
  const stream = new RandomStream(streamKey(1, name));
  return () => stream.uniform();
};

test('one column each: the absolute Pearson correlation', () => {
  const x = [1, 2, 3, 4];
  const y = [2, 1, 4, 3];
  // Σ(x−x̄)(y−ȳ) = 3, both squares sum to 5.
  expect(canonicalCorrelations(x, 1, y, 1)).toEqual([expect.closeTo(0.6, 12)]);
  expect(canonicalCorrelations(x, 1, y.map((value) => -7 * value), 1)).toEqual([expect.closeTo(0.6, 12)]); // prettier-ignore
});

/** Rows of `size` numbers that sum to 1. */
function distributions(draw: () => number, tokens: number, size: number): number[] {
  return Array.from({ length: tokens }, () => {
    const row = Array.from({ length: size }, draw);
    const total = row.reduce((a, b) => a + b, 0);
    return row.map((value) => value / total);
  }).flat();
}

test('a permuted distribution is fully correlated, in one direction fewer than it has entries', () => {
  const p = distributions(random('p'), 200, 4);
  const permuted = p.map((_, i) => p[i - (i % 4) + [2, 0, 3, 1][i % 4]]);
  expect(canonicalCorrelations(p, 4, permuted, 4)).toEqual(
    Array.from({ length: 3 }, () => expect.closeTo(1, 9) as number),
  );
});

test('independent distributions hardly correlate; sides of different size give as many as the smaller', () => {
  const p = distributions(random('p'), 4000, 5);
  const q = distributions(random('q'), 4000, 3);
  const found = canonicalCorrelations(p, 5, q, 3);
  expect(found).toHaveLength(2);
  expect(found[0]).toBeLessThan(0.07);
});

test('half of one side shared: one correlation is 1, the rest near 0', () => {
  const [a, b, c] = ['a', 'b', 'c'].map(random);
  const rows = Array.from({ length: 3000 }, () => [a(), b(), c()]);
  const [first, second] = canonicalCorrelations(
    rows.flatMap(([u, v]) => [u + v, u - v]),
    2,
    rows.flatMap(([u, , w]) => [3 * u, w + u]),
    2,
  );
  expect(first).toBeCloseTo(1, 9);
  expect(second).toBeLessThan(0.07);
});

test('a constant side has no direction, and lengths must fit', () => {
  expect(canonicalCorrelations([1, 1, 1], 1, [1, 2, 3], 1)).toEqual([]);
  expect(() => canonicalCorrelations([1, 2], 1, [1, 2, 3], 1)).toThrow('2 and 3 vectors');
});
