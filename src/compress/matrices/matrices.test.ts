import { expect, test } from 'vitest';
import { symmetricEigen } from '../../metrics/index.js';
import { matrixCompressorConformance, randomMatrix, restore } from '../matrix-compressor.case.js';
import type { DesignMatrix } from '../matrix-compressor.js';
import { largestMagnitudes } from './largest.js';
import { TruncatedSvd } from './truncated-svd.js';
import { UnstructuredPruning } from './unstructured-pruning.js';

matrixCompressorConformance('up');
matrixCompressorConformance('svd');

test('pruning keeps exactly the largest numbers, over the whole expert or block by block', async () => {
  const matrix = randomMatrix(9, 31);
  const size = matrix.values.length;
  const concat = restore(matrix, await new UnstructuredPruning('concat').compress(matrix, 0.25));
  const kept = matrix.values.filter((_, i) => concat[i] !== 0).map(Math.abs);
  const cut = matrix.values.filter((_, i) => concat[i] === 0).map(Math.abs);
  expect(kept).toHaveLength(size - Math.round(0.75 * size));
  expect(Math.min(...kept)).toBeGreaterThanOrEqual(Math.max(...cut));
  const sep = await new UnstructuredPruning('sep').compress(matrix, 0.25);
  for (const one of sep.matrices) {
    expect(one.kind === 'sparse' && one.values.length).toBe(31 * 9 - Math.round(0.75 * 31 * 9));
  }
});

test('the cut among ties, signs and zeros', () => {
  const sorted = (values: number[]): number[] => values.map(Math.abs).sort((a, b) => b - a);
  const values = [3, -3, 1, 0, -0, 2, -2, 2, 1e-40, -1e-40, 7];
  for (let count = 1; count <= values.length; count++) {
    const { threshold, ties } = largestMagnitudes(Float32Array.from(values), count);
    const single = Float32Array.from(sorted(values));
    expect(threshold).toBe(single[count - 1]);
    expect(single.filter((value) => value > threshold).length + ties).toBe(count);
  }
});

/** Error of the best factors, from all eigenvalues in double precision. */
function bestError({ rows, values }: DesignMatrix, rank: number): number {
  const columns = values.length / rows;
  const gram = new Float64Array(columns * columns);
  for (let row = 0; row < rows; row++)
    for (let i = 0; i < columns; i++)
      for (let j = 0; j < columns; j++)
        gram[i * columns + j] += values[row * columns + i] * values[row * columns + j];
  const { values: squares } = symmetricEigen(gram, columns);
  return squares.subarray(rank).reduce((total, square) => total + Math.max(0, square), 0);
}

/** M with its columns scaled by `decay`. */
function scaled(matrix: DesignMatrix, decay: (column: number) => number): DesignMatrix {
  const columns = matrix.values.length / matrix.rows;
  return { ...matrix, values: matrix.values.map((value, i) => value * decay(i % columns)) };
}

test.each([
  ['flat', () => 1],
  ['slow', (i: number) => 1 / Math.sqrt(1 + i)],
  ['steep', (i: number) => 1 / (1 + i)],
  ['a few large ones over a flat rest', (i: number) => (i < 5 ? 20 : 1)],
  ['large ones that fall to a flat rest', (i: number) => Math.max(1, 6 / (1 + i / 4))],
])('%s spectrum: within 1e-3 of the best factors, and the bound holds', async (_, decay) => {
  for (const [hidden, rows] of [
    [60, 200],
    [100, 120],
  ]) {
    const matrix = scaled(randomMatrix(hidden, rows), decay);
    const columns = 2 * hidden;
    const compressor = new TruncatedSvd('concat');
    const small = await compressor.compress(matrix, 0.25, 3);
    await compressor.release();
    const rank = Math.floor((0.25 * rows * columns) / (rows + columns));
    expect(small.matrices[0]).toMatchObject({ kind: 'lowRank', rank });
    const excess = Math.sqrt(small.error / bestError(matrix, rank)) - 1;
    expect(excess).toBeGreaterThan(-1e-5);
    expect(excess).toBeLessThan(1e-3);
    expect(small.truncationExcess).toBeGreaterThanOrEqual(excess - 1e-6);
    expect(small.truncationExcess).toBeLessThan(1e-3);
  }
});

test.each([
  ['eigenvalues that fall by 10⁵', (i: number) => 1 / (1 + i), 0.25],
  ['eigenvalues that fall by 10⁵, half of them kept', (i: number) => 1 / (1 + i), 0.5],
  ['a few very large ones', (i: number) => (i < 5 ? 100 : 1), 0.25],
  ['an end within what is kept', (i: number) => (i < 40 ? 1 : 0.1), 0.5],
])(
  '%s: float32 does not lose the small ones beside the large',
  async (_, decay, ratio) => {
    const [hidden, rows] = [128, 400];
    const matrix = scaled(randomMatrix(hidden, rows), decay);
    const compressor = new TruncatedSvd('concat');
    const small = await compressor.compress(matrix, ratio, 3);
    await compressor.release();
    const best = bestError(matrix, Math.floor((ratio * rows * 2 * hidden) / (rows + 2 * hidden)));
    const energy = matrix.values.reduce((total, value) => total + value * value, 0);
    // Below a hundredth of the matrix, the error is held against that.
    const unit = Math.sqrt(Math.max(best, 1e-4 * energy));
    const excess = (Math.sqrt(small.error) - Math.sqrt(best)) / unit;
    expect(excess).toBeLessThan(1e-3);
    expect(small.truncationExcess).toBeGreaterThanOrEqual(excess - 1e-6);
    expect(small.truncationExcess).toBeLessThan(1e-3);
  },
  30_000,
);

test('wide matrices are factorised from the other side, low rank is found exactly', async () => {
  const compressor = new TruncatedSvd('concat');
  const wide = randomMatrix(200, 50);
  const small = await compressor.compress(wide, 0.3, 3);
  expect(small.truncationExcess).toBeLessThan(1e-3);
  const { rows, values } = randomMatrix(30, 90);
  const low = values.map((_, i) => {
    const [row, column] = [Math.floor(i / 60), i % 60];
    return values[row * 60] * values[column] + values[row * 60 + 1] * values[60 + column];
  });
  const exact = await compressor.compress({ ...wide, rows, values: low }, 0.25, 3);
  await compressor.release();
  const energy = low.reduce((total, value) => total + value * value, 0);
  expect(Math.sqrt(exact.error / energy)).toBeLessThan(1e-5);
  expect(exact.truncationExcess).toBeLessThan(1e-3);
});
