import { describe, expect, test } from 'vitest';
import { SpecializationTable } from './specialization.js';

const table = (
  classOf: readonly number[],
  experts: readonly number[],
  numExperts = 2,
): SpecializationTable => {
  const made = new SpecializationTable('3', ['en', 'ja', 'ar'], numExperts);
  made.add(classOf, experts);
  return made;
};

describe('SpecializationTable', () => {
  test('counts every choice of a token for its class, and none for padding', () => {
    // Four tokens, two choices each.
    const made = table([0, 1, 1, 0], [0, 1, 1, 1, 0, 1, -1, -1]);
    expect(made.counts).toEqual([
      [1, 1],
      [1, 3],
      [0, 0],
    ]);
    made.add([2], [1, 1]);
    expect(made.counts[2]).toEqual([0, 2]);
    expect(made.shares()).toEqual([
      [0.5, 0.5],
      [0.25, 0.75],
      [0, 1],
    ]);
  });

  test('a class without tokens has no shares', () => {
    expect(table([0], [1]).shares()).toEqual([
      [0, 1],
      [0, 0],
      [0, 0],
    ]);
  });

  test('mutual information: 1 when one tells the other, 0 when neither does', () => {
    expect(table([0, 0, 1, 1], [0, 0, 1, 1]).mutualInformation()).toBeCloseTo(1, 12);
    expect(table([0, 0, 1, 1], [0, 1, 0, 1]).mutualInformation()).toBeCloseTo(0, 12);
    expect(table([0, 0, 1, 1], [0, 0, 0, 0]).mutualInformation()).toBe(0);
    expect(table([], []).mutualInformation()).toBe(0);
  });

  test('mutual information by hand in between', () => {
    // Joint counts [[3, 1], [1, 3]]: I = 2·(3/8)·log(3/2) + 2·(1/8)·log(1/2), both entropies log 2.
    const made = table([0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 0, 1, 1, 1]);
    const expected = (0.75 * Math.log(1.5) + 0.25 * Math.log(0.5)) / Math.log(2);
    expect(made.mutualInformation()).toBeCloseTo(expected, 12);
  });
});
