/**
 * Parts of compressed matrices.
 * @module
 */
import type { CompressedMatrix } from '../../../checkpoints/index.js';

/** Side of a square that stays in the cache both ways round. */
const TILE = 32;

/** Which columns of a row-major matrix. */
export interface ColumnRange {
  readonly rows: number;
  /** Columns of the whole matrix. */
  readonly stride: number;
  readonly begin: number;
  readonly width: number;
}

/** Copies columns into a matrix of their own, `[rows, width]`, or `[width, rows]` where they are turned. */
export function copyColumns(
  from: Float32Array,
  into: Float32Array,
  { rows, stride, begin, width }: ColumnRange,
  isTurned: boolean,
): void {
  if (!isTurned) {
    for (let row = 0; row < rows; row++) {
      const start = row * stride + begin;
      into.set(from.subarray(start, start + width), row * width);
    }
    return;
  }
  for (let top = 0; top < rows; top += TILE) {
    const bottom = Math.min(rows, top + TILE);
    for (let left = 0; left < width; left += TILE) {
      const right = Math.min(width, left + TILE);
      for (let row = top; row < bottom; row++)
        for (let column = left; column < right; column++)
          into[column * rows + row] = from[row * stride + begin + column];
    }
  }
}

/**
 * Bytes that a matrix takes in its file.
 * @param width of a stored number.
 */
export function storedBytes(matrix: CompressedMatrix, width: number): number {
  if (matrix.kind === 'lowRank') return (matrix.left.length + matrix.right.length) * width;
  const values = matrix.values.length * width;
  if (matrix.kind === 'dense') return values;
  const { index } = matrix;
  return (
    values +
    (index.kind === 'bitmap' ? index.bits.length : index.rowStarts.byteLength + index.columns.byteLength)
  );
}
