/**
 * From dispersions to weights of features: the diagonals of M_k = diag(1 / s_k) (arXiv 2502.15315), cut and scaled.
 * @module
 */
import {
  add,
  cast,
  divide,
  gather,
  greater,
  greaterEqual,
  less,
  matmul,
  maximum,
  minimum,
  modulo,
  multiply,
  oneHot,
  reciprocal,
  reshape,
  stopGradient,
  sum,
  where,
  type Tensor,
} from '../../../graph/index.js';
import { firstChoice, type ClusterStatistics } from './dispersion.js';
import type { ClusteringSettings } from './settings.js';

/** Weights `[..., clusters, hiddenSize]`; exactly 1 for clusters that do not count. */
export function clusterWeights(
  { dispersion, present }: ClusterStatistics,
  { eps, clip, scale, scaleMean }: Pick<ClusteringSettings, 'eps' | 'clip' | 'scale' | 'scaleMean'>,
): Tensor {
  const hiddenSize = dispersion.shape.at(-1) as number;
  const rows = maximum(sum(present, -2, true), 1);
  const ofClusters = (x: Tensor): Tensor => divide(sum(multiply(x, present), -2, true), rows);
  const ofAll = (x: Tensor): Tensor => multiply(sum(ofClusters(x), -1, true), 1 / hiddenSize);
  const inverse = reciprocal(add(dispersion, eps));
  const cut = clip === null ? inverse : minimum(inverse, multiply(ofAll(inverse), clip));
  const measured = scaleMean === 'preClip' ? inverse : cut;
  const scaled = {
    perFeature: () => divide(cut, ofClusters(measured)),
    global: () => divide(cut, ofAll(measured)),
    none: () => cut,
  }[scale]();
  return where(greater(present, 0), scaled, 1);
}

/** A token's clusters, as it looks its weights up. */
export interface Labels {
  /** Int32 `[tokens, choices]`: experts of the layer before, best first; −1 for none. */
  readonly experts: Tensor;
  /** Float `[tokens, choices]`: their gates. */
  readonly gates: Tensor;
}

/** Every cluster's weights go to the members of the one before it. */
export function nextCluster({ experts, gates }: Labels, numClusters: number): Labels {
  return { experts: where(less(experts, 0), experts, modulo(add(experts, 1), numClusters)), gates };
}

/**
 * Weights of each token `[tokens, hiddenSize]` from those of the clusters, `[clusters, hiddenSize]` or
 * `[tokens, clusters, hiddenSize]`: of its first choice, or of all choices by their share of the gates. A token
 * without a choice weighs 1.
 */
export function tokenWeights(weights: Tensor, labels: Labels, label: ClusteringSettings['label']): Tensor {
  const numClusters = weights.shape.at(-2) as number;
  const tokens = labels.experts.shape[0] as number;
  const first = firstChoice(labels.experts);
  const assigned = reshape(greaterEqual(first, 0), [tokens, 1]);
  if (label === 'top1' && weights.rank === 2) {
    return where(assigned, gather(weights, maximum(first, 0)), 1);
  }
  const shares =
    label === 'top1'
      ? oneHot(first, numClusters, weights.dtype)
      : gateShares(labels, numClusters, weights.dtype);
  const mixed =
    weights.rank === 2
      ? matmul(shares, weights)
      : sum(multiply(weights, reshape(shares, [tokens, numClusters, 1])), 1);
  return where(assigned, mixed, 1);
}

/** Gates by expert, divided by their sum: `[tokens, clusters]`. */
function gateShares({ experts, gates }: Labels, numClusters: number, dtype: Tensor['dtype']): Tensor {
  const weighted = multiply(oneHot(experts, numClusters, dtype), reshape(gates, [...gates.shape, 1]));
  const votes = sum(cast(stopGradient(weighted), dtype), 1);
  return divide(votes, maximum(sum(votes, 1, true), 1e-9));
}
