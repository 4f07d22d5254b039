/**
 * The assignment problem: which row goes with which column so that the total is largest.
 * @module
 */

/**
 * For each row the column it is matched with, so that the sum of the matched weights is largest; every column serves
 * at most one row, and rows beyond the number of columns get −1.
 *
 * Shortest augmenting paths with potentials (Jonker & Volgenant 1987), O(n³) in float64.
 *
 * @param weights `[rows][columns]`, finite
 * @throws RangeError for a weight that is not finite.
 * @example
 * maximumAssignment([[1, 5], [4, 6]]); // [1, 0]: 5 + 4 is more than 1 + 6
 */
export function maximumAssignment(weights: readonly (readonly number[])[]): number[] {
  const rows = weights.length;
  const columns = weights[0]?.length ?? 0;
  if (weights.some((row) => row.some((weight) => !Number.isFinite(weight))))
    throw new RangeError('an assignment needs finite weights');
  const size = Math.max(rows, columns);
  const cost = (row: number, column: number): number =>
    row < rows && column < columns ? -weights[row][column] : 0;
  // Index 0 of columns is the root from which each path starts; rows and columns count from 1.
  const rowPotential = new Float64Array(size + 1);
  const columnPotential = new Float64Array(size + 1);
  const rowOf = new Int32Array(size + 1);
  const previous = new Int32Array(size + 1);
  for (let row = 1; row <= size; row++) {
    rowOf[0] = row;
    const slack = new Float64Array(size + 1).fill(Infinity);
    const reached = new Uint8Array(size + 1);
    let column = 0;
    while (rowOf[column] !== 0) {
      reached[column] = 1;
      const from = rowOf[column];
      let delta = Infinity;
      let next = 0;
      for (let to = 1; to <= size; to++) {
        if (reached[to]) continue;
        const reduced = cost(from - 1, to - 1) - rowPotential[from] - columnPotential[to];
        if (reduced < slack[to]) {
          slack[to] = reduced;
          previous[to] = column;
        }
        if (slack[to] < delta) {
          delta = slack[to];
          next = to;
        }
      }
      for (let to = 0; to <= size; to++) {
        if (reached[to]) {
          rowPotential[rowOf[to]] += delta;
          columnPotential[to] -= delta;
        } else slack[to] -= delta;
      }
      column = next;
    }
    while (column !== 0) {
      rowOf[column] = rowOf[previous[column]];
      column = previous[column];
    }
  }
  const matched = new Array<number>(rows).fill(-1);
  for (let column = 1; column <= columns; column++) {
    if (rowOf[column] <= rows) matched[rowOf[column] - 1] = column - 1;
  }
  return matched;
}
