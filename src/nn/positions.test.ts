import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { run } from '../../test/support/numbers.js';
import { normal } from './initializers.js';
import { nameParameters } from './module.js';
import { RelativePositionBias, relativeBucket } from './positions.js';

describe("T5's buckets of relative positions", () => {
  // n buckets: r < n/2 has its own; then n/2 + ⌊n/2 · log(r / (n/2)) / log(128 / (n/2))⌋, here in exact fractions.
  const relatives = [
    0, 1, 2, 7, 8, 9, 11, 12, 15, 16, 20, 22, 23, 31, 32, 45, 46, 63, 64, 90, 91, 127, 128, 1000,
  ];

  test('bidirectional: half of them for keys to the right, which begin at 16', () => {
    const left = [0, 1, 2, 7, 8, 8, 8, 9, 9, 10, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15, 15, 15];
    expect(relatives.map((r) => relativeBucket(-r, true))).toEqual(left);
    expect(relatives.slice(1).map((r) => relativeBucket(r, true))).toEqual(left.slice(1).map((b) => 16 + b));
  });

  test('causal: all of them for keys to the left', () => {
    const left = [0, 1, 2, 7, 8, 9, 11, 12, 15, 16, 17, 18, 18, 21, 21, 23, 24, 26, 26, 29, 29, 31, 31, 31];
    expect(relatives.map((r) => relativeBucket(-r, false))).toEqual(left);
    expect(relatives.slice(1).map((r) => relativeBucket(r, false))).toEqual(relatives.slice(1).map(() => 0));
  });

  test('every bucket is used, in order, and the last one has no end', () => {
    for (const bidirectional of [true, false]) {
      const count = bidirectional ? 16 : 32;
      const buckets = Array.from({ length: 400 }, (_, r) => relativeBucket(-r, bidirectional));
      expect([...buckets].sort((a, b) => a - b)).toEqual(buckets);
      expect(new Set(buckets).size).toBe(count);
      expect(relativeBucket(-1e9, bidirectional)).toBe(count - 1);
    }
  });

  test('the bias of a pair is the table entry of its bucket', async () => {
    for (const bidirectional of [true, false]) {
      const module = new RelativePositionBias(2, bidirectional, normal(1));
      nameParameters(module, 'float64');
      const weight = randomNumbers(1, 64);
      const bias = module.forward(4, 6);
      expect(bias.toString()).toBe('float64[2, 4, 6]');
      const actual = await run({ bias }, [['weight', weight]]);
      const expected = Array.from({ length: 48 }, (_, at) => {
        const [h, i, j] = [Math.floor(at / 24), Math.floor(at / 6) % 4, at % 6];
        return weight[relativeBucket(j - i, bidirectional) * 2 + h];
      });
      expect(actual.bias).toEqual(expected);
    }
  });
});
