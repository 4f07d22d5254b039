/**
 * Arithmetic of stored matrices: back to dense, and from dense to sparse.
 * @module
 */
import type { CompressedMatrix, SparseMatrix } from './layer.js';
import { bitmapBytes, countPlaces, eachPlace, sparseIndexOf } from './sparse-index.js';

/** A column range of a larger row-major matrix. */
export interface Window {
  /** Columns of the larger matrix. */
  readonly stride: number;
  /** First column of the range. */
  readonly begin: number;
}

/** Adds a stored matrix to a dense one. */
export function addMatrix(
  matrix: CompressedMatrix,
  into: Float32Array,
  { stride, begin }: Window = { stride: matrix.columns, begin: 0 },
): void {
  const { rows, columns } = matrix;
  if (matrix.kind === 'sparse') {
    const { index, values } = matrix;
    eachPlace(index, rows, columns, (row, column, order) => {
      into[row * stride + begin + column] += values[order];
    });
    return;
  }
  if (matrix.kind === 'dense') {
    const { values } = matrix;
    for (let row = 0; row < rows; row++) {
      const target = row * stride + begin;
      const source = row * columns;
      for (let column = 0; column < columns; column++) into[target + column] += values[source + column];
    }
    return;
  }
  const { rank, left, right } = matrix;
  // One row at a time in float64, so that the sum does not depend on what was there before it.
  const sum = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sum.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = left[row * rank + r];
      const source = r * columns;
      for (let column = 0; column < columns; column++) sum[column] += factor * right[source + column];
    }
    const target = row * stride + begin;
    for (let column = 0; column < columns; column++) into[target + column] += sum[column];
  }
}

/**
 * The places of a dense matrix that `keep` chooses, as a sparse matrix.
 * @param keep is asked once for every place, row by row.
 */
export function sparseMatrix(
  rows: number,
  columns: number,
  dense: Float32Array,
  keep: (value: number, place: number) => boolean,
): SparseMatrix {
  const bits = new Uint8Array(bitmapBytes(rows, columns));
  for (let place = 0; place < dense.length; place++) {
    if (keep(dense[place], place)) bits[place >> 3] |= 1 << (place & 7);
  }
  const values = new Float32Array(countPlaces({ kind: 'bitmap', bits }));
  let order = 0;
  for (let place = 0; place < dense.length; place++) {
    if ((bits[place >> 3] >> (place & 7)) & 1) values[order++] = dense[place];
  }
  return { kind: 'sparse', rows, columns, index: sparseIndexOf(rows, columns, bits), values };
}
