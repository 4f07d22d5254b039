/**
 * How strongly two labellings of the same tokens go together, from their contingency table.
 * @module
 */
import { maximumAssignment } from './assignment.js';
import { entropy } from './decisiveness.js';

/** Counts `[a][b]` of how often label a and label b fell on the same token. */
export type Contingency = readonly (readonly number[])[];

/**
 * Counts pairs of labels; tokens on which either label is negative (no choice) are left out.
 * @param a labels `[tokens]` below `numA`
 * @param b labels `[tokens]` below `numB`
 * @throws RangeError if the labellings have different lengths.
 */
export function contingency(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  numA: number,
  numB: number,
): number[][] {
  if (a.length !== b.length)
    throw new RangeError(`two labellings of the same tokens have ${a.length} and ${b.length} labels`);
  const table = Array.from({ length: numA }, () => new Array<number>(numB).fill(0));
  for (let i = 0; i < a.length; i++) if (a[i] >= 0 && b[i] >= 0) table[a[i]][b[i]]++;
  return table;
}

const add = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** Sums of rows, of columns, and of everything. */
function margins(table: Contingency): { rows: number[]; columns: number[]; total: number } {
  const rows = table.map(add);
  const columns = (table[0] ?? []).map((_, column) => add(table.map((row) => row[column])));
  return { rows, columns, total: add(rows) };
}

/** Share of tokens on the diagonal: equal labels. Says something only where labels mean the same on both sides. */
export function rawAgreement(table: Contingency): number {
  const { total } = margins(table);
  return total === 0 ? 0 : table.reduce((sum, row, i) => sum + (row[i] ?? 0), 0) / total;
}

/**
 * Share of tokens on which the labels agree after the renaming π of one side that makes it largest:
 * `max_π mean_t 1[π(a_t) = b_t]`, found as an assignment over the table. An empty table agrees on nothing.
 */
export function matchedAgreement(table: Contingency): number {
  const { total } = margins(table);
  if (total === 0) return 0;
  const match = maximumAssignment(table);
  return table.reduce((sum, row, i) => sum + (match[i] < 0 ? 0 : row[match[i]]), 0) / total;
}

/**
 * Mutual information over the mean of both entropies, `2 I / (H(a) + H(b))`: 0 for independent labellings, 1 when each
 * tells the other. Two constant labellings have nothing to tell: 0.
 */
export function normalizedMutualInformation(table: Contingency): number {
  const { rows, columns, total } = margins(table);
  if (total === 0) return 0;
  const both = entropy(rows) + entropy(columns);
  const information = both - entropy(table.flat());
  return both <= 0 ? 0 : Math.max(0, (2 * information) / both);
}

/**
 * Cramér's V with Bergsma's correction (2013) of its bias on finite samples, over the labels that occur. 0 where fewer
 * than two labels occur on a side.
 */
export function cramersV(table: Contingency): number {
  const { rows, columns, total } = margins(table);
  const [r, k] = [rows, columns].map((counts) => counts.filter((count) => count > 0).length);
  if (r < 2 || k < 2) return 0;
  let chiSquare = 0;
  table.forEach((row, i) =>
    row.forEach((count, j) => {
      const expected = (rows[i] * columns[j]) / total;
      if (expected > 0) chiSquare += (count - expected) ** 2 / expected;
    }),
  );
  const bias = 1 / (total - 1);
  const phi = Math.max(0, chiSquare / total - (r - 1) * (k - 1) * bias);
  const limit = Math.min(r - (r - 1) ** 2 * bias, k - (k - 1) ** 2 * bias) - 1;
  return limit <= 0 ? 0 : Math.min(1, Math.sqrt(phi / limit));
}

/**
 * Mean absolute Pearson correlation of the labels' one-hot indicators, after the renaming that makes it largest.
 * A label that never or always occurs correlates with nothing.
 */
export function indicatorCorrelation(table: Contingency): number {
  const { rows, columns, total } = margins(table);
  const size = Math.max(rows.length, columns.length);
  if (size === 0 || total === 0) return 0;
  const correlations = table.map((row, i) =>
    row.map((count, j) => {
      const scale = rows[i] * (total - rows[i]) * columns[j] * (total - columns[j]);
      return scale === 0 ? 0 : Math.abs(count * total - rows[i] * columns[j]) / Math.sqrt(scale);
    }),
  );
  const match = maximumAssignment(correlations);
  return correlations.reduce((sum, row, i) => sum + (match[i] < 0 ? 0 : row[match[i]]), 0) / size;
}

/**
 * Share of pairs of distinct tokens that are together under one labelling and apart under the other: 0 for the same
 * grouping under any names, whatever the labels. Lower is more stable (adaptive clustering's router stability).
 */
export function pairDisagreement(table: Contingency): number {
  const { rows, columns, total } = margins(table);
  const squares = (counts: readonly number[]): number =>
    counts.reduce((sum, count) => sum + count * count, 0);
  if (total < 2) return 0;
  return (squares(rows) + squares(columns) - 2 * squares(table.flat())) / (total * (total - 1));
}
