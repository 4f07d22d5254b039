/**
 * How much of a matrix lies in how few directions.
 * @module
 */
import { symmetricEigen } from '../metrics/index.js';
import { designWidth } from '../checkpoints/index.js';
import type { DesignMatrix } from './matrix-compressor.js';

/** Larger matrices would take minutes. */
const LARGEST = 512;

/**
 * Singular values of a matrix, largest first: the roots of the eigenvalues of its smaller Gram matrix, in float64. Values
 * below about 1e-8 of the largest are rounding.
 *
 * @returns undefined where the smaller side has more than 512 numbers.
 */
export function spectrumOf({ rows, blocks, values }: DesignMatrix): number[] | undefined {
  const columns = designWidth(blocks);
  const size = Math.min(rows, columns);
  if (size > LARGEST) return undefined;
  const length = Math.max(rows, columns);
  const [across, along] = rows <= columns ? [columns, 1] : [1, columns];
  const gram = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = 0; k < length; k++) sum += values[i * across + k * along] * values[j * across + k * along];
      gram[i * size + j] = sum;
      gram[j * size + i] = sum;
    }
  }
  return [...symmetricEigen(gram, size).values]
    .map((value) => Math.sqrt(Math.max(0, value)))
    .sort((a, b) => b - a);
}
