import { describe, expect, test } from 'vitest';
import { uniformAt } from '../nn/index.js';
import { classificationScores, exceeds } from './classification.js';

/** Labels and predictions from a confusion matrix. */
function examples(confusion: readonly (readonly number[])[]): [number[], number[]] {
  const [labels, predictions]: [number[], number[]] = [[], []];
  confusion.forEach((row, label) =>
    row.forEach((count, predicted) => {
      for (let i = 0; i < count; i++) {
        labels.push(label);
        predictions.push(predicted);
      }
    }),
  );
  return [labels, predictions];
}

describe('classificationScores', () => {
  test('two classes by hand', () => {
    // True positives 45, false negatives 15, false positives 25, true negatives 15.
    const confusion = [
      [15, 25],
      [15, 45],
    ];
    const scores = classificationScores(...examples(confusion), 2);
    expect(scores.accuracy.value).toBeCloseTo(0.6, 12);
    expect(scores.f1.value).toBeCloseTo(90 / 130, 12);
    const matthews = (45 * 15 - 25 * 15) / Math.sqrt(70 * 60 * 40 * 30);
    expect(scores.matthews.value).toBeCloseTo(matthews, 12);
    expect(scores.majority).toEqual({ class: 1, accuracy: 0.6 });
    expect(scores.gain.value).toBeCloseTo(0, 12);
    expect(scores).toMatchObject({ examples: 100, confusion });
  });

  test('errors are those of leaving out every example in turn', () => {
    const labels = Array.from({ length: 40 }, (_, i) => Math.floor(3 * uniformAt(1, i)));
    const predictions = labels.map((label, i) => (uniformAt(2, i) < 0.6 ? label : (label + 1) % 3));
    const scores = classificationScores(labels, predictions, 3);
    for (const measure of ['accuracy', 'f1', 'matthews'] as const) {
      const values = labels.map((_, out) => {
        const keep = (_: number, i: number): boolean => i !== out;
        return classificationScores(labels.filter(keep), predictions.filter(keep), 3)[measure].value;
      });
      const mean = values.reduce((a, b) => a + b) / 40;
      const squares = values.reduce((total, value) => total + (value - mean) ** 2, 0);
      expect(scores[measure].standardError).toBeCloseTo(Math.sqrt((39 / 40) * squares), 12);
    }
    // For a mean the jackknife is the usual standard error.
    const a = scores.accuracy.value;
    expect(scores.accuracy.standardError).toBeCloseTo(Math.sqrt((a * (1 - a)) / 39), 12);
  });

  test('perfect, constant and inverted answers', () => {
    const labels = [0, 1, 1, 0, 1, 1];
    const perfect = classificationScores(labels, labels, 2);
    expect([perfect.accuracy, perfect.f1, perfect.matthews].map(({ value }) => value)).toEqual([1, 1, 1]);
    expect(perfect.accuracy.standardError).toBe(0);
    expect(exceeds(perfect.gain, 0)).toBe(false);
    const constant = classificationScores(labels, [1, 1, 1, 1, 1, 1], 2);
    expect(constant.accuracy.value).toBe(constant.majority.accuracy);
    expect(constant.gain).toEqual({ value: 0, standardError: 0 });
    expect(constant.matthews).toEqual({ value: 0, standardError: 0 });
    expect(exceeds(constant.gain, 0)).toBe(false);
    const inverted = labels.map((label) => 1 - label);
    expect(classificationScores(labels, inverted, 2).matthews.value).toBeCloseTo(-1, 12);
  });

  test('more classes: R_K is 1 for right answers and agrees with two classes where there are two', () => {
    const two = classificationScores(
      ...examples([
        [30, 10],
        [5, 55],
      ]),
      2,
    );
    const three = classificationScores(
      ...examples([
        [30, 10, 0],
        [5, 55, 0],
        [0, 0, 0],
      ]),
      3,
    );
    expect(three.matthews.value).toBeCloseTo(two.matthews.value, 12);
    expect(three.f1.value).toBeCloseTo((60 / 75 + 110 / 125) / 3, 12);
  });

  test('what it refuses', () => {
    expect(() => classificationScores([1], [1], 2)).toThrow('at least 2 of each');
    expect(() => classificationScores([0, 2], [0, 1], 2)).toThrow(
      'example 1 is of class 2, predicted 1: there are 2',
    );
  });
});
