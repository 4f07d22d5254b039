/**
 * Orthonormal columns by Cholesky factors of their Gram matrix: all that is large is a matrix product.
 * @module
 */
import { input, matmul } from '../../graph/index.js';
import { fillNormal, streamKey } from '../../nn/index.js';
import type { Products } from './products.js';

/** Columns of which less than this, squared, is new beside the others are left out: float32 could not tell it from noise. */
const NOTHING_NEW = 1e-5;

/** Where each column has at least this part of its squared length for itself, one pass leaves nothing to mend. */
const INDEPENDENT = 0.1;

/** Passes after the second: one for what was dependent, one for the random columns in its place. */
const MORE_PASSES = 2;

/**
 * Added to the Gram matrix of columns of length 1 before the first pass: float32 knows it to about this. Columns that
 * differ by less are drawn apart by it as far as they can be, and wholly by the second pass.
 */
const SHIFT = 2e-6;

/**
 * An orthonormal basis of the space that the columns span, up to float32, and of random directions where they span less.
 * The first pass leaves errors that the second squares (Yamamoto et al. 2015); it has a shift, so that columns that are
 * nearly dependent survive, which then need a third (Fukaya et al. 2020).
 * @param block `[rows, columns]`
 */
export async function orthonormalize(
  products: Products,
  block: Float32Array,
  rows: number,
  columns: number,
): Promise<Float32Array> {
  let basis = await condition(products, block, rows, columns);
  for (let pass = 0; ; pass++) {
    const gram = await innerProducts(products, basis, basis, rows, columns);
    const { square, missing, least } = whitening(gram, columns, 0);
    basis = await timesSquare(products, basis, square, rows, columns);
    if ((missing.length === 0 && least > INDEPENDENT) || pass === MORE_PASSES) return basis;
    const random = new Float32Array(rows * missing.length);
    fillNormal(streamKey('refill', pass), random);
    random.forEach((x, i) => {
      const [row, which] = [Math.floor(i / missing.length), i % missing.length];
      basis[row * columns + missing[which]] = x;
    });
  }
}

/** Columns that span the same space and are far from dependent, though not orthonormal: the first pass alone. */
export async function condition(
  products: Products,
  block: Float32Array,
  rows: number,
  columns: number,
): Promise<Float32Array> {
  const gram = await innerProducts(products, block, block, rows, columns);
  return timesSquare(products, block, whitening(gram, columns, SHIFT).square, rows, columns);
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
 * length 1, `shift` added to their squares, pivoted, and factorised.
 */
function whitening(
  gram: Float64Array,
  size: number,
  shift: number,
): { square: Float64Array; missing: readonly number[]; least: number } {
  const scales = Float64Array.from({ length: size }, (_, i) => {
    const square = gram[i * size + i];
    return square > 0 ? 1 / Math.sqrt(square) : 0;
  });
  const a = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) a[i * size + j] = gram[i * size + j] * scales[i] * scales[j];
    if (scales[i] > 0) a[i * size + i] += shift;
  }
  const { order, rank } = pivotedCholesky(a, size, shift === 0 ? NOTHING_NEW : shift / 2);
  let pivot = 1;
  for (let i = 0; i < rank; i++) pivot = Math.min(pivot, a[i * size + i] ** 2);
  const inverse = invertLower(a, size, rank);
  const whitened = new Float64Array(size * size);
  for (let i = 0; i < rank; i++)
    for (let j = 0; j <= i; j++)
      whitened[order[j] * size + order[i]] = scales[order[j]] * inverse[i * size + j];
  return { square: whitened, missing: [...order.subarray(rank)], least: pivot };
}

/** Overwrites the lower half of `a`, rows and columns in the order that is returned, with L of `L Lᵀ`, as long as more than `least` is left. */
function pivotedCholesky(a: Float64Array, size: number, least: number): { order: Int32Array; rank: number } {
  const order = Int32Array.from({ length: size }, (_, i) => i);
  const rest = Float64Array.from({ length: size }, (_, i) => a[i * size + i]);
  const original = a.slice();
  for (let k = 0; k < size; k++) {
    let pivot = k;
    for (let i = k + 1; i < size; i++) if (rest[order[i]] > rest[order[pivot]]) pivot = i;
    if (!(rest[order[pivot]] > least)) return { order, rank: k };
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
