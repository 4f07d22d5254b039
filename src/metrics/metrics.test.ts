import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bitsPerByte, loadStatistics, perplexity } from './index.js';

describe('loadStatistics', () => {
  test('by hand', () => {
    expect(loadStatistics([6, 2, 0, 0])).toEqual({
      total: 8,
      utilization: [3, 1, 0, 0],
      maxOverMean: 3,
      minOverMean: 0,
      // H(3/4, 1/4) over log 4
      balance: expect.closeTo((0.75 * Math.log(4 / 3) + 0.25 * Math.log(4)) / Math.log(4), 12) as number,
      coefficientOfVariation: expect.closeTo(Math.sqrt((4 + 0 + 1 + 1) / 4), 12) as number,
      dead: [2, 3],
    });
  });

  test('experts before the first that can be chosen are left out', () => {
    const { total, utilization, ...rest } = loadStatistics([0, 0, 3, 1, 0, 0], 2);
    const { total: all, utilization: four, dead, ...same } = loadStatistics([3, 1, 0, 0]);
    expect([total, utilization]).toEqual([all, four]);
    expect(rest).toEqual({ ...same, dead: dead.map((expert) => expert + 2) });
  });

  test('even, one-sided, single and empty loads', () => {
    expect(loadStatistics([5, 5, 5])).toMatchObject({ maxOverMean: 1, coefficientOfVariation: 0, dead: [] });
    expect(loadStatistics([5, 5, 5]).balance).toBeCloseTo(1, 12);
    expect(loadStatistics([0, 9]).balance).toBeCloseTo(0, 12);
    expect(loadStatistics([9])).toMatchObject({ balance: 1, utilization: [1], dead: [] });
    expect(loadStatistics(new Int32Array(4))).toMatchObject({
      total: 0,
      balance: 1,
      utilization: [1, 1, 1, 1],
      dead: [],
    });
  });

  test('stays in its bounds and ignores order and scale', () => {
    const load = fc.array(fc.nat(1000), { minLength: 2, maxLength: 64 });
    fc.assert(
      fc.property(load, fc.integer({ min: 2, max: 9 }), (counts, factor) => {
        const one = loadStatistics(counts);
        const other = loadStatistics([...counts].reverse().map((count) => factor * count));
        expect(one.balance).toBeGreaterThanOrEqual(-1e-12);
        expect(one.balance).toBeLessThanOrEqual(1 + 1e-12);
        expect(one.maxOverMean).toBeGreaterThanOrEqual(1 - 1e-12);
        expect(one.maxOverMean).toBeLessThanOrEqual(counts.length + 1e-9);
        expect(other.balance).toBeCloseTo(one.balance, 9);
        expect(other.coefficientOfVariation).toBeCloseTo(one.coefficientOfVariation, 9);
        expect(other.dead).toHaveLength(one.dead.length);
      }),
      { seed: 17, numRuns: 200 },
    );
  });
});

test('perplexity of a fair die is its number of sides', () => {
  expect(perplexity(Math.log(6))).toBeCloseTo(6, 12);
  expect(perplexity(0)).toBe(1);
});

test('bits per byte: eight bits of surprise over two bytes are four', () => {
  expect(bitsPerByte(8 * Math.LN2, 2)).toBeCloseTo(4, 12);
  expect(bitsPerByte(0, 0)).toBe(0);
});
