import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { distance, run } from '../../test/support/numbers.js';
import { input, matmul, reshape, rotatePairs, transpose } from '../graph/index.js';
import {
  rotaryFrequencies,
  rotaryTables,
  scoreFactor,
  type RotaryScaling,
  type YarnScaling,
} from './rotary.js';

describe('rotary tables', () => {
  test('hold the angles t · base^(−2i / headSize)', async () => {
    const { cosine, sine } = rotaryTables(3, 4, 'float64', { base: 100 });
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

describe('angles stretched for longer texts', () => {
  const headSize = 8;
  const plain = [1, 0.1, 0.01, 0.001];
  const frequencies = (scaling: RotaryScaling): Float64Array => rotaryFrequencies(headSize, { scaling });
  const close = (actual: ArrayLike<number>, expected: readonly number[]): void =>
    expected.forEach((value, i) => expect(actual[i], `pair ${i}`).toBeCloseTo(value, 12));

  test('linear: all alike', () =>
    close(
      frequencies({ kind: 'linear', factor: 4 }),
      plain.map((f) => f / 4),
    ));

  test('llama3: pairs that turn often are kept, rare ones divided, those between blended', () => {
    const scaling = { kind: 'llama3', factor: 4, lowFrequencyFactor: 1, highFrequencyFactor: 8 } as const;
    const turns = 100 / (2 * Math.PI);
    // 15.9 turns; 1.59 are 0.0845 of the way from 1 to 8; 0.159; 0.0159.
    const share = (turns * 0.1 - 1) / 7;
    const middle = 0.1 * share + (0.1 / 4) * (1 - share);
    close(frequencies({ ...scaling, originalContextLength: 100 }), [1, middle, 0.01 / 4, 0.001 / 4]);
  });

  test('yarn: a ramp over the pairs, and a factor on the tables', async () => {
    const yarn = { kind: 'yarn', factor: 4, originalContextLength: 1000, betaFast: 32, betaSlow: 1 } as const;
    // Pairs that turn 32 times and once in 1000 tokens: 0.697 and 2.202; whole pairs: 0 and 3.
    close(
      frequencies({ ...yarn, truncate: true }),
      plain.map((f, i) => f * (1 - i / 3) + (f / 4) * (i / 3)),
    );
    const [low, high] = [32, 1].map((n) => (8 * Math.log(1000 / (n * 2 * Math.PI))) / (2 * Math.log(10_000)));
    const ramp = plain.map((_, i) => Math.min(1, Math.max(0, (i - low!) / (high! - low!))));
    close(
      frequencies({ ...yarn, truncate: false }),
      plain.map((f, i) => f * (1 - ramp[i]!) + (f / 4) * ramp[i]!),
    );
    const atZero = async (more: Partial<YarnScaling>): Promise<number> => {
      const { cosine } = rotaryTables(1, headSize, 'float64', {
        scaling: { ...yarn, truncate: true, ...more },
      });
      return (await run({ cosine }, [])).cosine[0]!;
    };
    expect(await atZero({})).toBeCloseTo(0.1 * Math.log(4) + 1, 12);
    expect(await atZero({ attentionFactor: 0.7 })).toBeCloseTo(0.7, 12);
    const scaled = (coefficient: number): number => 0.1 * coefficient * Math.log(4) + 1;
    expect(await atZero({ mscale: 2, mscaleAllDim: 0.5 })).toBeCloseTo(scaled(2) / scaled(0.5), 12);
    expect(scoreFactor({ ...yarn, truncate: true, mscaleAllDim: 0.5 })).toBeCloseTo(scaled(0.5) ** 2, 12);
    expect(scoreFactor({ ...yarn, truncate: true })).toBe(1);
    expect(scoreFactor(undefined)).toBe(1);
  });
});
