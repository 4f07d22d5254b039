/**
 * Eigenvalues and eigenvectors of small symmetric matrices.
 * @module
 */

/** Eigenvalues in descending order, and for each its vector of length 1. */
export interface SymmetricEigen {
  readonly values: number[];
  readonly vectors: number[][];
}

/** More sweeps than any matrix of a few hundred rows needs. */
const MAX_SWEEPS = 60;

/**
 * Jacobi's method in float64: rotations until what is off the diagonal vanishes.
 * @param matrix `[n][n]`, symmetric
 */
export function symmetricEigen(matrix: readonly (readonly number[])[]): SymmetricEigen {
  const n = matrix.length;
  const a = matrix.map((row) => Float64Array.from(row));
  const v = a.map((_, i) => Float64Array.from({ length: n }, (_, j) => Number(i === j)));
  const scale = Math.max(...a.map((row) => Math.max(...row.map(Math.abs))), 0);
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let rest = 0;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rest = Math.max(rest, Math.abs(a[p][q]));
    if (rest <= 1e-15 * scale) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(a, v, p, q);
  }
  const order = a.map((_, i) => i).sort((i, j) => a[j][j] - a[i][i]);
  return {
    values: order.map((i) => a[i][i]),
    vectors: order.map((i) => v.map((row) => row[i])),
  };
}

function rotate(a: Float64Array[], v: Float64Array[], p: number, q: number): void {
  if (a[p][q] === 0) return;
  const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
  const cosine = 1 / Math.sqrt(t * t + 1);
  const sine = t * cosine;
  for (let k = 0; k < a.length; k++) {
    const [x, y] = [a[k][p], a[k][q]];
    a[k][p] = cosine * x - sine * y;
    a[k][q] = sine * x + cosine * y;
  }
  for (let k = 0; k < a.length; k++) {
    const [x, y] = [a[p][k], a[q][k]];
    a[p][k] = cosine * x - sine * y;
    a[q][k] = sine * x + cosine * y;
    const [left, right] = [v[k][p], v[k][q]];
    v[k][p] = cosine * left - sine * right;
    v[k][q] = sine * left + cosine * right;
  }
}
