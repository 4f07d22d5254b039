import { describe, expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/evaluate.js';
import { gradientError, randomNumbers } from '../../../test/support/gradient-check.js';
import { input } from '../../graph/index.js';
import { sparsemax, type SparsemaxForm } from './sparsemax.js';

/** The definition, written for reading. */
function reference(row: readonly number[], form: SparsemaxForm): number[] {
  const sorted = [...row].sort((a, b) => b - a);
  let [support, total, running] = [0, 0, 0];
  sorted.forEach((value, i) => {
    running += value;
    if (1 + (i + 1) * value > running) [support, total] = [i + 1, running];
  });
  const threshold = (total - (form === 'paper' ? 1 : 2)) / support;
  const raised = row.map((value) => Math.max(0, value - threshold));
  const sum = form === 'paper' ? 1 : raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / sum);
}

describe.each(['paper', 'released'] as const)('sparsemax, %s', (form) => {
  test.each([1, 2, 7, 20])('is its definition over rows of %i', async (size) => {
    const scores = randomNumbers(size, 5 * size, -2, 2);
    const y = await numbersOf(sparsemax(input('z', 'float64', [5, size]), form), { z: scores });
    for (let row = 0; row < 5; row++) {
      const expected = reference([...scores.subarray(row * size, (row + 1) * size)], form);
      expected.forEach((value, i) => expect(y[row * size + i]).toBeCloseTo(value, 12));
    }
  });

  test('has the right gradient', async () => {
    const data = randomNumbers(3, 4 * 6, -1.5, 1.5);
    expect(await gradientError(([z]) => sparsemax(z, form), [{ shape: [4, 6], data }], 1)).toBeLessThan(1e-7);
  });

  test('gives masked scores nothing, and rows of masked scores zeros', async () => {
    const scores = Float32Array.of(0.5, -1e9, 0.3, -1e9, -1e9, -1e9);
    const y = await numbersOf(sparsemax(input('z', 'float32', [2, 3]), form), { z: scores });
    const alone = reference([0.5, 0.3], form);
    [alone[0], 0, alone[1], 0, 0, 0].forEach((value, i) => expect(y[i]).toBeCloseTo(value, 6));
  });
});

test('the paper’s form gives exact zeros', async () => {
  const z = Float64Array.of(3, 0, 0);
  expect(await numbersOf(sparsemax(input('z', 'float64', [1, 3])), { z })).toEqual([1, 0, 0]);
});
