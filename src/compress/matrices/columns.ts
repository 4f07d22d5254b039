/**
 * Column ranges of row-major matrices.
 * @module
 */

/** Columns `start` … `start + width` − 1 as a matrix of their own. */
export function takeColumns(values: Float32Array, rows: number, start: number, width: number): Float32Array {
  const stride = values.length / rows;
  const part = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    const from = row * stride + start;
    part.set(values.subarray(from, from + width), row * width);
  }
  return part;
}
