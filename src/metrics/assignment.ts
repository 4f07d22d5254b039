/**
 * The assignment problem: which row goes with which column so that the total is largest.
 * @module
 */
import { AssignmentSolver } from './assignment-solver.js';

/**
 * For each row the column it is matched with, so that the sum of the matched weights is largest; every column serves
 * at most one row, and rows beyond the number of columns get −1.
 *
 * {@link AssignmentSolver} is for large square problems.
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
  const solver = new AssignmentSolver(size, 'float64');
  // Rows and columns that only make the problem square cost the same everywhere.
  weights.forEach((row, i) => row.forEach((weight, j) => (solver.costs[i * size + j] = -weight)));
  const { columnOf } = solver.solve();
  return weights.map((_, row) => (columnOf[row] < columns ? columnOf[row] : -1));
}
