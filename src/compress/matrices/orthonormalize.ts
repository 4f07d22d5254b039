/**
 * Orthonormal columns by Cholesky factors of their Gram matrix: all that is large is a matrix product.
 * @module
 */
import { input, matmul } from '../../graph/index.js';
import type { Products } from './products.js';

/** Columns of which less than this, squared, is new beside the others are left out: float32 could not tell it from noise. */
const NOTHING_NEW = 1e-5;

/** Twice is enough: the first pass leaves errors that the second squares (Yamamoto et al. 2015). */
const PASSES = 2;

/**
 * An orthonormal basis of the space that the columns span, up to float32. Columns that add nothing become zero.
 * @param block `[rows, columns]`
 */
export async function orthonormalize(
  products: Products,
  block: Float32Array,
  rows: number,
  columns: number,
): Promise<Float32Array> {
  let basis = block;
  for (let pass = 0; pass < PASSES; pass++) {
    const gram = await innerProducts(products, basis, basis, rows, columns);
    basis = await timesSquare(products, basis, whitening(gram, columns), rows, columns);
  }
  return basis;
}

/** `aᵀ b` of two `[rows, columns]` blocks, in double precision for what follows. */
export async function innerProducts(
  products: Products,
  a: Float32Array,
  b: Float32Array,
  rows: number,
  columns: number,
): Promise<Float64Array> {
  const shape = [rows, columns];
  const make = () => matmul(input('a', 'float32', shape), input('b', 'float32', shape), { transposeA: true });
  return Float64Array.from(await products.run(`inner ${rows} ${columns}`, make, { a, b }));
}

/** `block · square` */
export async function timesSquare(
  products: Products,
  block: Float32Array,
  square: Float64Array,
  rows: number,
  columns: number,
): Promise<Float32Array> {
  const make = () =>
    matmul(input('block', 'float32', [rows, columns]), input('square', 'float32', [columns, columns]));
  const feeds = { block, square: Float32Array.from(square) };
  return products.run(`square ${rows} ${columns}`, make, feeds);
}

/**
 * T with `Tᵀ G T = 1`, but for the columns that are left out, which are zero: `T = S P R⁻¹` with the columns scaled to
 * length 1, pivoted, and factorised.
 */
function whitening(gram: Float64Array, size: number): Float64Array {
  const scales = Float64Array.from({ length: size }, (_, i) => {
    const square = gram[i * size + i];
    return square > 0 ? 1 / Math.sqrt(square) : 0;
  });
  const a = new Float64Array(size * size);
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) a[i * size + j] = gram[i * size + j] * scales[i] * scales[j];
  const { order, rank } = pivotedCholesky(a, size);
  const inverse = invertLower(a, size, rank);
  const whitened = new Float64Array(size * size);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j <= i; j++)
      whitened[order[j] * size + order[i]] = scales[order[j]] * inverse[i * size + j];
  return whitened;
}

/** Overwrites the lower half of `a`, rows and columns in the order that is returned, with L of `L Lᵀ`. */
function pivotedCholesky(a: Float64Array, size: number): { order: Int32Array; rank: number } {
  const order = Int32Array.from({ length: size }, (_, i) => i);
  const rest = Float64Array.from({ length: size }, (_, i) => a[i * size + i]);
  const original = a.slice();
  for (let k = 0; k < size; k++) {
    let pivot = k;
    for (let i = k + 1; i < size; i++) if (rest[order[i]] > rest[order[pivot]]) pivot = i;
    if (!(rest[order[pivot]] > NOTHING_NEW)) return { order, rank: k };
    [order[k], order[pivot]] = [order[pivot], order[k]];
    if (k !== pivot) swapRows(a, k, pivot, size, k);
    const diagonal = Math.sqrt(rest[order[k]]);
    const from = k * size;
    a[from + k] = diagonal;
    for (let i = k + 1; i < size; i++) {
      const at = i * size;
      let sum = original[order[i] * size + order[k]];
      for (let j = 0; j < k; j++) sum -= a[at + j] * a[from + j];
      const entry = sum / diagonal;
      a[at + k] = entry;
      rest[order[i]] -= entry * entry;
    }
  }
  return { order, rank: size };
}

/** Swaps the first `length` numbers of two rows. */
function swapRows(a: Float64Array, i: number, j: number, size: number, length: number): void {
  for (let k = 0; k < length; k++) [a[i * size + k], a[j * size + k]] = [a[j * size + k], a[i * size + k]];
}

/** The inverse of the leading `rank` rows of a lower triangular matrix. */
function invertLower(lower: Float64Array, size: number, rank: number): Float64Array {
  const inverse = new Float64Array(size * size);
  for (let i = 0; i < rank; i++) {
    const at = i * size;
    const diagonal = 1 / lower[at + i];
    // Row i of the inverse from the rows above it: −L⁻¹ᵢᵢ Σ Lᵢₖ (row k).
    for (let k = 0; k < i; k++) {
      const factor = -lower[at + k] * diagonal;
      const from = k * size;
      for (let j = 0; j <= k; j++) inverse[at + j] += factor * inverse[from + j];
    }
    inverse[at + i] = diagonal;
  }
  return inverse;
}
