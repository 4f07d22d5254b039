/** What every matrix compressor must do. */
import { afterAll, describe, expect, test } from 'vitest';
import { makeExperts, type MadeExperts } from '../../test/support/experts.js';
import { addMatrix, storedNumbers, type DesignRole } from '../checkpoints/index.js';
import { matrixCompressors, type MatrixCompressorName } from './matrices/index.js';
import { scopes, type DesignMatrix, type SmallMatrix } from './matrix-compressor.js';

/** A normal random matrix in the shape of an expert. */
export function randomMatrix(
  hiddenSize: number,
  rows: number,
  roles: readonly DesignRole[] = ['up', 'down'],
): DesignMatrix & { readonly layer: MadeExperts } {
  const layer = makeExperts({ numExperts: 1, hiddenSize, intermediateSize: rows, roles, spread: Infinity });
  return { rows, blocks: layer.blocks, values: layer.designs[0], layer };
}

/** The dense matrix that is stored. */
export function restore(matrix: DesignMatrix, { matrices }: SmallMatrix): Float32Array {
  const dense = new Float32Array(matrix.values.length);
  const stride = dense.length / matrix.rows;
  let begin = 0;
  for (const one of matrices) {
    addMatrix(one, dense, { stride, begin });
    begin += one.columns;
  }
  expect(begin).toBe(stride);
  return dense;
}

const squaredDistance = (a: Float32Array, b: Float32Array): number =>
  a.reduce((total, x, i) => total + (x - b[i]) ** 2, 0);

/** Runs the suite for both scopes. */
export function matrixCompressorConformance(name: MatrixCompressorName): void {
  describe.each(scopes)(`${name}, %s`, (scope) => {
    const compressor = matrixCompressors[name](scope);
    afterAll(() => compressor.release());
    const gated = randomMatrix(11, 23, ['gate', 'gateBias', 'up', 'upBias', 'down']);
    const flat = randomMatrix(40, 16);

    test('stores at most its share, all of it but for rounding, and reports the error there is', async () => {
      for (const matrix of [gated, flat]) {
        const size = matrix.values.length;
        const small = await compressor.compress(matrix, 0.4, 1);
        const stored = small.matrices.reduce((total, one) => total + storedNumbers(one), 0);
        expect(stored).toBeLessThanOrEqual(Math.ceil(0.4 * size));
        // Less than one more rank of each block is left over.
        expect(stored).toBeGreaterThan(0.4 * size - small.matrices.length * (matrix.rows + 80));
        const restored = restore(matrix, small);
        expect(small.error / squaredDistance(restored, matrix.values)).toBeCloseTo(1, 4);
        expect(small.matrices.every((one) => one.rows === matrix.rows)).toBe(true);
        expect(small.matrices).toHaveLength(scope === 'concat' ? 1 : matrix.blocks.length);
      }
    });

    test('more stored, less lost, and all of it loses nothing', async () => {
      const errors: number[] = [];
      for (const ratio of [0.25, 0.5, 0.9, 1])
        errors.push((await compressor.compress(gated, ratio, 1)).error);
      expect(errors).toEqual([...errors].sort((a, b) => b - a));
      const whole = await compressor.compress(gated, 1, 1);
      expect(whole.error).toBe(0);
      expect(restore(gated, whole)).toEqual(gated.values);
    });

    test('nothing stays nothing', async () => {
      const zero = { ...gated, values: new Float32Array(gated.values.length) };
      const small = await compressor.compress(zero, 0.3, 1);
      expect(small.error).toBe(0);
      expect(restore(zero, small)).toEqual(zero.values);
    });

    test('the same twice gives the same bits', async () => {
      expect(await compressor.compress(flat, 0.3, 5)).toEqual(await compressor.compress(flat, 0.3, 5));
    });

    test('what is not finite, and a share of nothing, are refused', async () => {
      const values = gated.values.slice();
      values[7] = NaN;
      await expect(compressor.compress({ ...gated, values }, 0.5, 1)).rejects.toThrow('not a finite number');
      await expect(compressor.compress(gated, 1e-4, 1)).rejects.toThrow(/keep at least 0\.\d+/);
    });
  });
}
