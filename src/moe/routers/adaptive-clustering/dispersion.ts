/**
 * How far the members of each cluster spread along each feature (arXiv 2502.15315; COSA's s_qk).
 * @module
 */
import {
  abs,
  add,
  broadcastTo,
  cast,
  cumulativeSum,
  divide,
  gather,
  gatherElements,
  greater,
  greaterEqual,
  matmul,
  maximum,
  multiply,
  oneHot,
  range,
  reshape,
  slice,
  square,
  subtract,
  sum,
  topK,
  transpose,
  type Tensor,
} from '../../../graph/index.js';
import type { ClusteringSettings } from './settings.js';

/** Statistics of clusters. Leading axes, if any, are those of tokens that have statistics of their own. */
export interface ClusterStatistics {
  /** Float `[..., clusters, hiddenSize]` */
  readonly dispersion: Tensor;
  /** Float `[..., clusters, 1]`: 1 for clusters that count, 0 for the others. */
  readonly present: Tensor;
}

/** Tokens with what they were assigned to before. */
export interface Assignment {
  /** `[tokens, hiddenSize]`, without a gradient. */
  readonly hidden: Tensor;
  /** Int32 `[tokens, choices]`: experts of the layer before, −1 for none. */
  readonly experts: Tensor;
  readonly numClusters: number;
}

type Measure = Pick<ClusteringSettings, 'dispersion' | 'minMembers'>;

/** One-hot first choices `[tokens, clusters]`. */
function membership({ hidden, experts, numClusters }: Assignment): Tensor {
  return oneHot(firstChoice(experts), numClusters, hidden.dtype);
}

/** Int32 `[tokens]`: clusters are first choices. */
export function firstChoice(experts: Tensor): Tensor {
  return reshape(slice(experts, 1, 0, 1), [-1]);
}

/** Which clusters count. `members` and `choices` are `[..., clusters]`: tokens by first choice, and by any. */
function presence(members: Tensor, choices: Tensor, minMembers: number): Tensor {
  if (minMembers > 0) return cast(greaterEqual(members, minMembers), members.dtype);
  // The releases have as many clusters as the highest chosen index says: all those with a chosen one at or after them.
  return cast(greater(cumulativeSum(choices, members.rank - 1, { reverse: true }), 0), members.dtype);
}

/** Statistics of all tokens together: O(tokens · clusters · hiddenSize) products, sorting for `pairwise`. */
export function batchStatistics(
  assignment: Assignment,
  { dispersion, minMembers }: Measure,
): ClusterStatistics {
  const { hidden, experts, numClusters } = assignment;
  const members = membership(assignment);
  const counts = sum(members, 0);
  const choices = sum(oneHot(experts, numClusters, hidden.dtype), [0, 1]);
  const column = (x: Tensor): Tensor => reshape(x, [numClusters, 1]);
  const average = (x: Tensor): Tensor =>
    divide(matmul(members, x, { transposeA: true }), maximum(column(counts), 1));
  const deviation = (): Tensor => subtract(hidden, gather(average(hidden), maximum(firstChoice(experts), 0)));
  const measures = {
    mad: () => average(abs(deviation())),
    var: () => average(square(deviation())),
    pairwise: () => pairwise(assignment, counts),
  };
  return { dispersion: measures[dispersion](), present: column(presence(counts, choices, minMembers)) };
}

/**
 * Mean of |a − b| over pairs of different members: in sorted order member i of m (from 0) is the larger one in i pairs
 * and the smaller one in m − 1 − i. Sorting takes the place of tokens² · hiddenSize differences.
 */
function pairwise({ hidden, experts }: Assignment, counts: Tensor): Tensor {
  const [tokens, hiddenSize] = hidden.shape as [number, number];
  const numClusters = counts.shape[0] as number;
  const byFeature = topK(transpose(hidden), tokens, { largest: false });
  const labels = broadcastTo(cast(firstChoice(experts), hidden.dtype), [hiddenSize, tokens]);
  const labelsInOrder = gatherElements(labels, byFeature.indices);
  // Equal labels stay in the order of the first sort; nobody's tokens (−1) come first.
  const byCluster = topK(labelsInOrder, tokens, { largest: false });
  const values = gatherElements(byFeature.values, byCluster.indices);
  const sortedLabels = cast(reshape(slice(byCluster.values, 0, 0, 1), [tokens]), 'int32');

  const outside = subtract(tokens, sum(counts, 0, true));
  const starts = add(cumulativeSum(counts, 0, { exclusive: true }), outside);
  const own = (x: Tensor): Tensor => gather(x, maximum(sortedLabels, 0));
  const rank = subtract(cast(range(tokens), hidden.dtype), own(starts));
  const larger = subtract(add(multiply(rank, 2), 1), own(counts));
  const coefficients = multiply(
    oneHot(sortedLabels, numClusters, hidden.dtype),
    reshape(larger, [tokens, 1]),
  );
  const total = matmul(coefficients, reshape(values, [hiddenSize, tokens]), {
    transposeA: true,
    transposeB: true,
  });
  const pairs = multiply(multiply(counts, subtract(counts, 1)), 0.5);
  return divide(total, reshape(maximum(pairs, 1), [numClusters, 1]));
}

/**
 * Statistics that token t of a sequence may know: of its tokens 0 … t. O(tokens · clusters · hiddenSize) numbers.
 * The variance is exact (Welford's sums); a mean absolute deviation is taken from the mean up to each member, because
 * deviations from a mean that moves cannot be summed.
 */
export function prefixStatistics(
  assignment: Assignment,
  { dispersion, minMembers }: Measure,
  batchSize: number,
): ClusterStatistics {
  const { hidden, experts, numClusters } = assignment;
  const [tokens, hiddenSize] = hidden.shape as [number, number];
  const time = tokens / batchSize;
  const bySequence = (x: Tensor, ...sizes: number[]): Tensor => reshape(x, [batchSize, time, ...sizes]);
  const running = (x: Tensor): Tensor => cumulativeSum(x, 1);
  const members = bySequence(membership(assignment), numClusters, 1);
  const rows = bySequence(hidden, 1, hiddenSize);
  const counts = running(members);
  const safe = maximum(counts, 1);
  const own = multiply(members, rows);
  const totals = running(own);
  const fromMean = subtract(rows, divide(totals, safe));
  const before = divide(subtract(totals, own), maximum(subtract(counts, members), 1));
  const deviation = dispersion === 'mad' ? abs(fromMean) : multiply(fromMean, subtract(rows, before));
  const choices = running(bySequence(sum(oneHot(experts, numClusters, hidden.dtype), 1), numClusters));
  const present = presence(bySequence(counts, numClusters), choices, minMembers);
  return {
    dispersion: reshape(divide(running(multiply(members, deviation)), safe), [
      tokens,
      numClusters,
      hiddenSize,
    ]),
    present: reshape(present, [tokens, numClusters, 1]),
  };
}
