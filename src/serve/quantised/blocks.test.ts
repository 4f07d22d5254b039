import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { input, quantisedMatmul, ShapeError } from '../../graph/index.js';
import { RandomStream } from '../../nn/index.js';
import { compile } from '../../runtime/index.js';
import { dequantise, quantise, type QuantiseOptions } from './blocks.js';

const normal = (seed: number, length: number): Float32Array => {
  const random = new RandomStream(seed);
  const uniform = (): number => random.uniform();
  return Float32Array.from(
    { length },
    () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
};

const options: fc.Arbitrary<QuantiseOptions & { seed: number }> = fc.record({
  bits: fc.constantFrom(4 as const, 8 as const),
  outSize: fc.integer({ min: 1, max: 9 }),
  inSize: fc.integer({ min: 1, max: 100 }),
  layout: fc.constantFrom('outIn' as const, 'inOut' as const),
  mode: fc.constantFrom('symmetric' as const, 'asymmetric' as const),
  seed: fc.nat(1e6),
});

/** `[outSize, inSize]` of a matrix in either layout. */
function outIn(matrix: Float32Array, { outSize, inSize, layout }: QuantiseOptions): number[][] {
  return Array.from({ length: outSize }, (_, out) =>
    Array.from(
      { length: inSize },
      (__, i) => matrix[layout === 'outIn' ? out * inSize + i : i * outSize + out],
    ),
  );
}

test('every number is off by at most half a step, the extreme that the range does not reach by one', () => {
  fc.assert(
    fc.property(options, (settings) => {
      const { bits, outSize, inSize, layout, mode, seed } = settings;
      const matrix = normal(seed, outSize * inSize);
      const back = outIn(dequantise(quantise(matrix, settings), layout), settings);
      outIn(matrix, settings).forEach((row, out) => {
        for (let first = 0; first < inSize; first += 32) {
          const block = row.slice(first, first + 32);
          const [least, most] = [Math.min(0, ...block), Math.max(0, ...block)];
          const step =
            mode === 'symmetric'
              ? Math.max(most, -least) / 2 ** (bits - 1)
              : (most - least) / (2 ** bits - 1);
          block.forEach((value, i) => {
            const error = Math.abs(back[out][first + i] - value);
            // Beyond the last number of the range lies at most one step.
            const beyond = mode === 'symmetric' && Math.abs(value) > (2 ** (bits - 1) - 1.5) * step;
            expect(error).toBeLessThanOrEqual(
              (beyond || mode === 'asymmetric' ? 1 : 0.5) * step * (1 + 1e-5),
            );
          });
        }
      });
    }),
  );
});

test('what has been rounded is not changed by rounding again, and the layout does not matter', () => {
  fc.assert(
    fc.property(options, (settings) => {
      const { outSize, inSize, layout, seed } = settings;
      const matrix = normal(seed, outSize * inSize);
      const once = quantise(matrix, settings);
      const rounded = dequantise(once, layout);
      const again = dequantise(quantise(rounded, settings), layout);
      again.forEach((value, i) => expect(value).toBeCloseTo(rounded[i], 5));
      const other = layout === 'outIn' ? 'inOut' : 'outIn';
      const [rows, columns] = layout === 'outIn' ? [outSize, inSize] : [inSize, outSize];
      const moved = quantise(transposed(matrix, rows, columns), { ...settings, layout: other });
      expect(moved).toEqual(once);
    }),
  );
});

function transposed(matrix: Float32Array, rows: number, columns: number): Float32Array {
  return Float32Array.from(matrix, (_, at) => matrix[(at % rows) * columns + Math.floor(at / rows)]);
}

test('zeros stay zeros; numbers that are not finite and wrong sizes are refused', () => {
  for (const bits of [4, 8] as const) {
    for (const mode of ['symmetric', 'asymmetric'] as const) {
      const settings = { bits, mode, outSize: 2, inSize: 40, layout: 'outIn' } as const;
      const zeros = quantise(new Float32Array(80), settings);
      expect(dequantise(zeros, 'outIn').every((value) => value === 0)).toBe(true);
      for (const bad of [NaN, Infinity, -Infinity]) {
        expect(() => quantise(new Float32Array(80).fill(bad, 50, 51), settings)).toThrow(/finite/);
      }
      expect(() => quantise(new Float32Array(79), settings)).toThrow(/79 numbers are not a matrix of 2 × 40/);
    }
  }
});

/** `x Wᵀ` in double precision. */
function product(x: Float32Array, rows: number, weight: Float32Array, outSize: number): number[] {
  const inSize = x.length / rows;
  return Array.from({ length: rows * outSize }, (_, at) => {
    const [row, out] = [Math.floor(at / outSize), at % outSize];
    let sum = 0;
    for (let i = 0; i < inSize; i++) sum += x[row * inSize + i] * weight[out * inSize + i];
    return sum;
  });
}

const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let [difference, size] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
};

describe('the product of ONNX Runtime with the constant is that with the numbers it stands for', () => {
  for (const bits of [4, 8] as const) {
    for (const mode of ['symmetric', 'asymmetric'] as const) {
      for (const [inSize, outSize] of [
        [64, 48],
        [80, 33],
        [256, 128],
      ]) {
        test(`${bits} bits, ${mode}, ${inSize} → ${outSize}`, async () => {
          const settings = { bits, mode, inSize, outSize, layout: 'outIn' } as const;
          const weight = quantise(normal(inSize + bits, inSize * outSize), settings);
          const rounded = dequantise(weight, 'outIn');
          for (const rows of [1, 2, 7, 64]) {
            const x = normal(rows, rows * inSize);
            const expected = product(x, rows, rounded, outSize);
            const tensor = input('x', 'float32', ['rows', inSize]);
            const program = await compile({
              exact: quantisedMatmul(tensor, weight, 'float32'),
              fast: quantisedMatmul(tensor, weight),
            });
            const { exact, fast } = await program.run({ x });
            expect(distance(exact as Float32Array, expected)).toBeLessThan(2e-6);
            // Rows are rounded to 8 bits: of normal numbers 0.6 %.
            expect(distance(fast as Float32Array, expected)).toBeLessThan(0.012);
            await program.release();
          }
        });
      }
    }
  }
});

test('parts that do not fit each other or the rows are refused', () => {
  const settings = { bits: 4, mode: 'asymmetric', inSize: 64, outSize: 3, layout: 'outIn' } as const;
  const weight = quantise(normal(1, 192), settings);
  const x = input('x', 'float32', [2, 64]);
  expect(() => quantisedMatmul(input('x', 'float32', [2, 63]), weight)).toThrow(ShapeError);
  expect(() => quantisedMatmul(x, { ...weight, scales: new Float32Array(5) })).toThrow(/has 6 scales, not 5/);
  expect(() => quantisedMatmul(x, { ...weight, values: new Uint8Array(5) })).toThrow(/has 96 values, not 5/);
  expect(() => quantisedMatmul(x, { ...weight, zeroPoints: new Uint8Array(5) })).toThrow(
    /has 3 zeroPoints, not 5/,
  );
});
