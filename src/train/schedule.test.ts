import { expect, test } from 'vitest';
import { learningRateAt, type ScheduleOptions } from './schedule.js';

const base = { learningRate: 1, warmupSteps: 4, finalFraction: 0.1 };
const rates = (kind: ScheduleOptions['kind'], steps: readonly number[], total = 15): number[] =>
  steps.map((step) => learningRateAt(step, total, { ...base, kind }));
const expectClose = (actual: readonly number[], expected: readonly number[]): void => {
  expected.forEach((value, i) => expect(actual[i], `entry ${i}`).toBeCloseTo(value, 12));
};

test('the warm-up rises in equal parts and reaches the full rate after it', () => {
  for (const kind of ['constant', 'cosine', 'linear', 'inverseSqrt'] as const) {
    expectClose(rates(kind, [0, 1, 2, 3, 4]), [0.2, 0.4, 0.6, 0.8, 1]);
  }
});

test('constant stays', () => {
  expectClose(rates('constant', [5, 9, 14, 1000]), [1, 1, 1, 1]);
});

test('linear falls in equal parts to the final fraction on the last step and stays there', () => {
  expectClose(rates('linear', [4, 5, 9, 14, 20]), [1, 0.91, 0.55, 0.1, 0.1]);
});

test('cosine is half-way in the middle, slow at both ends, and ends at the final fraction', () => {
  const quarter = 0.1 + 0.9 * 0.5 * (1 + Math.SQRT1_2);
  expectClose(rates('cosine', [4, 6.5, 9, 11.5, 14, 20]), [1, quarter, 0.55, 1.1 - quarter, 0.1, 0.1]);
});

test('inverseSqrt halves when the step is four times the warm-up', () => {
  expectClose(rates('inverseSqrt', [4, 16, 36, 400]), [1, 1 / 2, 1 / 3, 1 / 10]);
});

test('a run without warm-up starts at the full rate, and one shorter than its warm-up never reaches it', () => {
  for (const kind of ['constant', 'cosine', 'linear', 'inverseSqrt'] as const) {
    expect(learningRateAt(0, 10, { ...base, kind, warmupSteps: 0 })).toBe(1);
    expect(learningRateAt(2, 3, { ...base, kind, warmupSteps: 9 })).toBeCloseTo(0.3, 12);
  }
  expect(learningRateAt(0, 1, { ...base, kind: 'cosine', warmupSteps: 0 })).toBe(1);
});
