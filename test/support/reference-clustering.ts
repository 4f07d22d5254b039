/**
 * Weights of Adaptive Clustering (arXiv 2502.15315) in plain loops.
 * @module
 */
import type { Matrix } from './reference-moe.js';

/** What the weights depend on. */
export interface ReferenceClustering {
  readonly dispersion: 'mad' | 'var' | 'pairwise';
  readonly eps: number;
  readonly clip: number | null;
  readonly scale: 'perFeature' | 'global' | 'none';
  readonly scaleMean: 'preClip' | 'postClip';
  readonly label: 'top1' | 'mixed';
  readonly minMembers: number;
}

/** Tokens, with their experts in the layer before: −1 for none. */
export interface ReferenceAssignment {
  readonly hidden: Matrix;
  readonly experts: Matrix;
  readonly gates: Matrix;
  readonly numClusters: number;
}

/** Dispersions of every cluster and feature, and which clusters count. */
export interface ReferenceStatistics {
  readonly dispersion: Matrix;
  readonly present: readonly boolean[];
}

const total = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0);
const average = (list: readonly number[]): number => (list.length === 0 ? 0 : total(list) / list.length);

/** s of one feature. */
function spread(values: readonly number[], dispersion: ReferenceClustering['dispersion']): number {
  const mean = average(values);
  if (dispersion === 'mad') return average(values.map((value) => Math.abs(value - mean)));
  if (dispersion === 'var') return average(values.map((value) => (value - mean) ** 2));
  return average(values.flatMap((a, i) => values.flatMap((b, j) => (i === j ? [] : [Math.abs(a - b)]))));
}

/** Statistics of all tokens. */
export function referenceStatistics(
  { hidden, experts, numClusters }: ReferenceAssignment,
  { dispersion, minMembers }: Pick<ReferenceClustering, 'dispersion' | 'minMembers'>,
): ReferenceStatistics {
  const clusters = Array.from({ length: numClusters }, (_, k) =>
    hidden.filter((_row, t) => experts[t][0] === k),
  );
  const highest = Math.max(-1, ...experts.flat());
  return {
    dispersion: clusters.map((rows) =>
      hidden[0].map((_, q) =>
        spread(
          rows.map((row) => row[q]),
          dispersion,
        ),
      ),
    ),
    present: clusters.map((rows, k) => (minMembers > 0 ? rows.length >= minMembers : k <= highest)),
  };
}

/** W of every cluster and feature. */
export function referenceClusterWeights(
  { dispersion, present }: ReferenceStatistics,
  { eps, clip, scale, scaleMean }: ReferenceClustering,
): number[][] {
  const inverse = dispersion.map((row) => row.map((s) => 1 / (s + eps)));
  const counted = (rows: Matrix): Matrix => rows.filter((_, k) => present[k]);
  const limit = clip === null ? Infinity : clip * average(counted(inverse).flat());
  const cut = inverse.map((row) => row.map((w) => Math.min(w, limit)));
  const measured = counted(scaleMean === 'preClip' ? inverse : cut);
  return cut.map((row, k) =>
    row.map((w, q) => {
      if (!present[k]) return 1;
      if (scale === 'none') return w;
      return w / average(scale === 'global' ? measured.flat() : measured.map((other) => other[q]));
    }),
  );
}

/** W of every token and feature, from those of the clusters (or of the token's own clusters). */
export function referenceTokenWeights(
  weightsOf: (token: number) => Matrix,
  { hidden, experts, gates }: ReferenceAssignment,
  label: ReferenceClustering['label'],
): number[][] {
  return hidden.map((row, t) => {
    const [first] = experts[t];
    if (first < 0) return row.map(() => 1);
    const weights = weightsOf(t);
    if (label === 'top1') return [...weights[first]];
    const made = experts[t].flatMap((expert, k) => (expert < 0 ? [] : [{ expert, gate: gates[t][k] }]));
    const sum = total(made.map(({ gate }) => gate));
    return row.map((_, q) => total(made.map(({ expert, gate }) => (gate / sum) * weights[expert][q])));
  });
}

/** The tokens of a sequence up to one of them, as an assignment of their own. */
export function prefixOf(all: ReferenceAssignment, token: number, batchSize: number): ReferenceAssignment {
  const time = all.hidden.length / batchSize;
  const start = Math.floor(token / time) * time;
  const part = (rows: Matrix): Matrix => rows.slice(start, token + 1);
  return { ...all, hidden: part(all.hidden), experts: part(all.experts), gates: part(all.gates) };
}

/** Statistics of a prefix; a mean absolute deviation takes every member from the mean up to itself. */
export function referencePrefixStatistics(
  prefix: ReferenceAssignment,
  settings: Pick<ReferenceClustering, 'dispersion' | 'minMembers'>,
): ReferenceStatistics {
  const exact = referenceStatistics(prefix, settings);
  if (settings.dispersion !== 'mad') return exact;
  const dispersion = exact.dispersion.map((row, k) => {
    const rows = prefix.hidden.filter((_, t) => prefix.experts[t][0] === k);
    return row.map((_, q) =>
      average(
        rows.map((own, i) => Math.abs(own[q] - average(rows.slice(0, i + 1).map((other) => other[q])))),
      ),
    );
  });
  return { ...exact, dispersion };
}
