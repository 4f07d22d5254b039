/**
 * Eigenvalues and eigenvectors of symmetric matrices, in double precision.
 * @module
 */
import { rotatableRows, type RotatableRows } from './row-rotation.js';

/** Eigenvalues in descending order, and for each its vector of length 1. */
export interface SymmetricEigen {
  /** `[size]` */
  readonly values: Float64Array;
  /** `[size, size]`: row i belongs to value i. */
  readonly vectors: Float64Array;
}

/** Steps that one eigenvalue may take; two are the rule. */
const MAX_STEPS = 60;

/**
 * Householder's reduction to three diagonals, then implicit QL steps with Wilkinson's shift (Golub & Van Loan, §8.3;
 * Wilkinson & Reinsch, II/2 and II/4). About 9 size³ operations.
 *
 * @param matrix `[size, size]`, symmetric: only what is on and below the diagonal is read.
 * @throws RangeError if a number is not finite.
 */
export function symmetricEigen(matrix: Float64Array, size: number): SymmetricEigen {
  if (!matrix.every(Number.isFinite)) throw new RangeError('eigenvalues need finite numbers');
  const a = matrix.slice();
  const diagonal = new Float64Array(size);
  const beside = new Float64Array(size);
  const factors = reduce(a, size, diagonal, beside);
  const rows = basis(a, size, factors);
  iterate(diagonal, beside, rows, size);
  const order = Array.from(diagonal.keys()).sort((i, j) => diagonal[j] - diagonal[i]);
  const vectors = new Float64Array(size * size);
  order.forEach((from, to) => {
    const start = from * rows.stride;
    vectors.set(rows.numbers.subarray(start, start + size), to * size);
  });
  return { values: Float64Array.from(order, (i) => diagonal[i]), vectors };
}

/**
 * Leaves the three diagonals in `diagonal` and `beside` (between i − 1 and i), and in row i of `a`, left of the
 * diagonal, the vector u of the reflection `1 − factor · u uᵀ` that cleared that row.
 * @returns the factors.
 */
function reduce(a: Float64Array, size: number, diagonal: Float64Array, beside: Float64Array): Float64Array {
  const factors = new Float64Array(size);
  const p = new Float64Array(size);
  for (let i = size - 1; i > 0; i--) {
    const u = a.subarray(i * size, i * size + i);
    const scale = u.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    if (scale === 0 || i === 1) {
      beside[i] = u[i - 1];
      continue;
    }
    // Scaled, so that squares neither overflow nor vanish.
    let square = 0;
    for (let k = 0; k < i; k++) {
      u[k] /= scale;
      square += u[k] * u[k];
    }
    const length = u[i - 1] > 0 ? -Math.sqrt(square) : Math.sqrt(square);
    beside[i] = scale * length;
    const factor = 1 / (square - u[i - 1] * length);
    u[i - 1] -= length;
    factors[i] = factor;
    // p = factor · A u, A being symmetric and read by rows of its lower half.
    p.fill(0, 0, i);
    for (let j = 0; j < i; j++) {
      const start = j * size;
      const uj = u[j];
      let sum = a[start + j] * uj;
      for (let k = 0; k < j; k++) {
        sum += a[start + k] * u[k];
        p[k] += a[start + k] * uj;
      }
      p[j] += sum;
    }
    let product = 0;
    for (let k = 0; k < i; k++) {
      p[k] *= factor;
      product += p[k] * u[k];
    }
    for (let k = 0; k < i; k++) p[k] -= 0.5 * factor * product * u[k];
    for (let j = 0; j < i; j++) {
      const start = j * size;
      const [uj, pj] = [u[j], p[j]];
      for (let k = 0; k <= j; k++) a[start + k] -= uj * p[k] + pj * u[k];
    }
  }
  for (let i = 0; i < size; i++) diagonal[i] = a[i * size + i];
  return factors;
}

/** The product of the reflections, transposed: row i is the direction of the i-th diagonal entry. */
function basis(a: Float64Array, size: number, factors: Float64Array): RotatableRows {
  const all = rotatableRows(size, size);
  const { numbers: rows, stride } = all;
  for (let i = 0; i < size; i++) rows[i * stride + i] = 1;
  for (let i = 2; i < size; i++) {
    if (factors[i] === 0) continue;
    const u = a.subarray(i * size, i * size + i);
    // Reflections before this one have left the rows from i on, and the columns from i on, alone.
    for (let j = 0; j < i; j++) {
      const start = j * stride;
      let product = 0;
      for (let k = 0; k < i; k++) product += rows[start + k] * u[k];
      product *= factors[i];
      for (let k = 0; k < i; k++) rows[start + k] -= product * u[k];
    }
  }
  return all;
}

/** QL steps until nothing is left beside the diagonal, every rotation applied to two rows. */
function iterate(diagonal: Float64Array, beside: Float64Array, rows: RotatableRows, size: number): void {
  beside.copyWithin(0, 1);
  beside[size - 1] = 0;
  // Against the largest of all: the reduction before has rounded everything to that.
  const scale = diagonal.reduce((most, x, i) => Math.max(most, Math.abs(x) + Math.abs(beside[i])), 0);
  for (let low = 0; low < size; low++) {
    for (let steps = 0; ; steps++) {
      let high = low;
      while (high < size - 1 && Math.abs(beside[high]) > Number.EPSILON * scale) high++;
      if (high === low) break;
      if (steps === MAX_STEPS) throw new Error('an eigenvalue did not converge');
      qlStep(diagonal, beside, rows, low, high);
    }
  }
}

/** One step on the block `low` … `high`. */
function qlStep(
  diagonal: Float64Array,
  beside: Float64Array,
  rows: RotatableRows,
  low: number,
  high: number,
): void {
  const half = (diagonal[low + 1] - diagonal[low]) / (2 * beside[low]);
  const root = Math.hypot(half, 1);
  let g = diagonal[high] - diagonal[low] + beside[low] / (half + (half < 0 ? -root : root));
  let [sine, cosine, shift] = [1, 1, 0];
  for (let i = high - 1; i >= low; i--) {
    const f = sine * beside[i];
    const b = cosine * beside[i];
    const radius = Math.hypot(f, g);
    beside[i + 1] = radius;
    if (radius === 0) {
      diagonal[i + 1] -= shift;
      beside[high] = 0;
      return;
    }
    sine = f / radius;
    cosine = g / radius;
    const rest = diagonal[i + 1] - shift;
    const turn = (diagonal[i] - rest) * sine + 2 * cosine * b;
    shift = sine * turn;
    diagonal[i + 1] = rest + shift;
    g = cosine * turn - b;
    rows.rotate(i, cosine, sine);
  }
  diagonal[low] -= shift;
  beside[low] = g;
  beside[high] = 0;
}
