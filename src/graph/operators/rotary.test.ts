import fc from 'fast-check';
import { expect, test } from 'vitest';
import { evaluate } from '../../../test/support/evaluate.js';
import { at, tabulate } from '../../../test/support/nd.js';
import { floats, operatorTest, seeds, type Sample } from '../../../test/support/operator-check.js';
import { constant, input, rotatePairs, type Tensor } from '../index.js';

function tables(time: number, half: number): { cosine: number[]; sine: number[] } {
  const angles = Array.from(
    { length: time * half },
    (_, i) => Math.floor(i / half) / 10 ** ((i % half) / half),
  );
  return {
    cosine: angles.map((a) => Math.fround(Math.cos(a))),
    sine: angles.map((a) => Math.fround(Math.sin(a))),
  };
}

const size = fc.integer({ min: 1, max: 3 });

operatorTest(
  'rotatePairs',
  fc
    .tuple(size, size, size, size, fc.boolean(), seeds)
    .map(([batch, heads, time, half, interleaved, seed]): Sample => {
      const { cosine, sine } = tables(time, half);
      return {
        operands: [floats(seed, [batch, heads, time, 2 * half])],
        build: ([x], dtype) =>
          rotatePairs(x, constant(dtype, [time, half], cosine), constant(dtype, [time, half], sine), {
            interleaved,
          }),
        reference: ([x]) =>
          tabulate(x.shape, ([n, h, t, i]) => {
            const pair = interleaved ? Math.floor(i / 2) : i % half;
            const first = interleaved ? i % 2 === 0 : i < half;
            const partner = i + (first ? 1 : -1) * (interleaved ? 1 : half);
            const [c, s] = [cosine[t * half + pair], sine[t * half + pair]];
            return at(x, [n, h, t, i]) * c + (first ? -s : s) * at(x, [n, h, t, partner]);
          }),
      };
    }),
  20,
);

operatorTest(
  'rotatePairs at chosen positions',
  fc
    .tuple(size, size, size, size, fc.boolean(), seeds)
    .map(([batch, heads, time, half, interleaved, seed]): Sample => {
      const { cosine, sine } = tables(7, half);
      const positions = Array.from({ length: batch * time }, (_, i) => (5 * i + (seed % 7)) % 7);
      return {
        operands: [floats(seed, [batch, heads, time, 2 * half])],
        build: ([x], dtype) =>
          rotatePairs(x, constant(dtype, [7, half], cosine), constant(dtype, [7, half], sine), {
            interleaved,
            positions: constant('int32', [batch, time], positions),
          }),
        reference: ([x]) =>
          tabulate(x.shape, ([n, h, t, i]) => {
            const pair = interleaved ? Math.floor(i / 2) : i % half;
            const first = interleaved ? i % 2 === 0 : i < half;
            const partner = i + (first ? 1 : -1) * (interleaved ? 1 : half);
            const row = positions[n * time + t] * half + pair;
            return (
              at(x, [n, h, t, i]) * cosine[row] + (first ? -1 : 1) * sine[row] * at(x, [n, h, t, partner])
            );
          }),
      };
    }),
  20,
);

test('positions that are not one per token are refused', () => {
  const x = input('x', 'float32', [2, 1, 3, 4]);
  const table = constant('float32', [9, 2], new Float32Array(18));
  expect(() => rotatePairs(x, table, table, { positions: input('positions', 'int32', [1, 3]) })).toThrow(
    'rotatePairs: positions int32[1, 3] are not those of float32[2, 1, 3, 4]',
  );
});

test('a rotation keeps lengths, and position 0 is not rotated', async () => {
  const { cosine, sine } = tables(5, 4);
  const x = input('x', 'float32', [1, 2, 5, 8]);
  const turned = (interleaved: boolean): Tensor =>
    rotatePairs(x, constant('float32', [5, 4], cosine), constant('float32', [5, 4], sine), { interleaved });
  const data = Float32Array.from(floats(3, [80]).data!);
  const results = await evaluate({ split: turned(false), interleaved: turned(true) }, { x: data });
  const norm = (values: Float32Array): number => Math.hypot(...values);
  for (const y of [results.split, results.interleaved] as Float32Array[]) {
    expect(y.subarray(0, 8)).toEqual(data.subarray(0, 8));
    for (let at = 0; at < 80; at += 8) {
      expect(norm(y.subarray(at, at + 8))).toBeCloseTo(norm(data.subarray(at, at + 8)), 5);
    }
  }
});
