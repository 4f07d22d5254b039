/**
 * What methods without a centre have in common.
 * @module
 */
import {
  designWidth,
  type CompressedLayer,
  type DenseMatrix,
  type StoredExpert,
} from '../../checkpoints/index.js';
import { layerFraction, perExpertRatio } from '../budget.js';
import type { CompressionContext, LayerExperts } from '../method.js';

/** Rows of design matrices as an expert of their own. */
export function denseExpert(layer: LayerExperts, values: Float32Array): StoredExpert {
  const columns = designWidth(layer.blocks);
  const matrix: DenseMatrix = { kind: 'dense', rows: values.length / columns, columns, values };
  return { matrices: [matrix] };
}

/** A layer without a centre. By default every expert stands for itself. */
export function layerWithoutCentre(
  layer: LayerExperts,
  experts: readonly StoredExpert[],
  expertOf: readonly number[] = experts.map((_, expert) => expert),
  outputBiases = layer.outputBiases,
): CompressedLayer {
  const { name, intermediateSize, hiddenSize, blocks } = layer;
  return {
    name,
    intermediateSize,
    hiddenSize,
    blocks,
    experts,
    expertOf,
    ...(outputBiases ? { outputBiases } : {}),
  };
}

/**
 * How many of `count` equal parts of the experts may be stored: whole experts of a layer, neurons of an expert.
 * @throws RangeError if it is none, naming the least share that would store one.
 */
export function partsWithin(
  { budget }: CompressionContext,
  layer: LayerExperts,
  count: number,
  what: string,
): number {
  const ratio = perExpertRatio(budget, layer.numExperts, false);
  // A share that was meant to be exact must not lose a part to rounding: 0.29 · 100 is 28.999….
  const parts = Math.floor(ratio * count + 1e-9);
  if (parts === 0)
    throw new RangeError(
      `${layer.name}: a share of ${layerFraction(ratio, layer.numExperts, false)} keeps none of ${count} ${what}: keep at least ${1 / count}`,
    );
  return parts;
}

/** Indices of the `count` largest scores, in rising order; of equal ones the first. */
export function largestOf(scores: ArrayLike<number>, count: number): number[] {
  return Array.from({ length: scores.length }, (_, index) => index)
    .sort((a, b) => scores[b] - scores[a] || a - b)
    .slice(0, count)
    .sort((a, b) => a - b);
}
