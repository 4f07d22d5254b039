/**
 * Transposed copies of matrices.
 * @module
 */

/** Side of the tiles that fit into the cache together. */
const TILE = 32;

/** `[height, width]` → `[width, height]`, into a new array or the given one. */
export function transposeMatrix(
  matrix: Float32Array,
  height: number,
  width: number,
  into: Float32Array = new Float32Array(matrix.length),
): Float32Array {
  if (matrix.length !== height * width || into.length !== matrix.length)
    throw new RangeError(`${matrix.length} numbers are no matrix of ${height} × ${width} for ${into.length}`);
  for (let top = 0; top < height; top += TILE) {
    const bottom = Math.min(top + TILE, height);
    for (let left = 0; left < width; left += TILE) {
      const right = Math.min(left + TILE, width);
      for (let row = top; row < bottom; row++)
        for (let column = left; column < right; column++)
          into[column * height + row] = matrix[row * width + column];
    }
  }
  return into;
}
