import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { distance, run } from '../../test/support/numbers.js';
import { input, matmul, reshape, rotatePairs, transpose } from '../graph/index.js';
import { normal } from './initializers.js';
import { nameParameters } from './module.js';
import { RelativePositionBias, relativeBucket, rotaryTables } from './positions.js';

describe('rotary tables', () => {
  test('hold the angles t · base^(−2i / headSize)', async () => {
    const { cosine, sine } = rotaryTables(3, 4, 'float64', 100);
    const actual = await run({ cosine, sine }, []);
    const angles = [0, 0, 1, 0.1, 2, 0.2];
    expect(distance(actual.cosine, angles.map(Math.cos))).toBeLessThan(1e-15);
    expect(distance(actual.sine, angles.map(Math.sin))).toBeLessThan(1e-15);
  });

  test('odd heads are refused', () => {
    expect(() => rotaryTables(3, 5, 'float32')).toThrow('rotary positions need an even head size, not 5');
  });

  test.each(['float32', 'float64'] as const)('scores depend on distances only (%s)', async (dtype) => {
    // The same query and key at every position: the score matrix must be constant along its diagonals.
    const [time, headSize] = [9, 6];
    const { cosine, sine } = rotaryTables(time, headSize, dtype);
    const query = input('query', dtype, [1, 1, time, headSize]);
    const key = input('key', dtype, [1, 1, time, headSize]);
    const scores = matmul(rotatePairs(query, cosine, sine), rotatePairs(key, cosine, sine), {
      transposeB: true,
    });
    const everywhere = (vector: Float64Array): number[] =>
      Array.from({ length: time }, () => [...vector]).flat();
    const feeds = [
      ['query', everywhere(randomNumbers(1, headSize))],
      ['key', everywhere(randomNumbers(2, headSize))],
    ] as const;
    const { scores: flat } = await run({ scores }, feeds, dtype);
    const byDistance = (i: number, j: number): number => flat[i * time + j];
    const expected = flat.map((_, at) => {
      const [i, j] = [Math.floor(at / time), at % time];
      return i >= j ? byDistance(i - j, 0) : byDistance(0, j - i);
    });
    expect(distance(flat, expected)).toBeLessThan(dtype === 'float64' ? 1e-14 : 1e-6);
    // They do depend on distance.
    expect(Math.abs(byDistance(3, 0) - byDistance(0, 0))).toBeGreaterThan(1e-3);
    expect(Math.abs(byDistance(3, 0) - byDistance(0, 3))).toBeGreaterThan(1e-3);
  });

  test.each(['float32', 'float64'] as const)('interleaved pairs are halves, permuted (%s)', async (dtype) => {
    const x = input('x', dtype, [2, 2, 5, 6]);
    const { cosine, sine } = rotaryTables(5, 6, dtype);
    // (0,1)(2,3)(4,5) → (0,3)(1,4)(2,5): split the features into pairs and turn the pair axis outwards.
    const halves = reshape(transpose(reshape(x, [2, 2, 5, 3, 2]), [0, 1, 2, 4, 3]), [2, 2, 5, 6]);
    const turned = reshape(rotatePairs(halves, cosine, sine), [2, 2, 5, 2, 3]);
    const actual = await run(
      {
        interleaved: rotatePairs(x, cosine, sine, { interleaved: true }),
        permuted: reshape(transpose(turned, [0, 1, 2, 4, 3]), [2, 2, 5, 6]),
      },
      [['x', randomNumbers(1, 120)]],
      dtype,
    );
    expect(distance(actual.interleaved, actual.permuted)).toBeLessThan(1e-6);
  });
});

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
