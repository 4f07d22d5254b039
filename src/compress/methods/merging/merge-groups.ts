/**
 * Groups of experts become one expert each.
 * @module
 */
import { designSize, designWidth, type StoredExpert } from '../../../checkpoints/index.js';
import { alignedDistance, energyOf, identity } from '../../align.js';
import { NeuronMatcher } from '../../centres/matching.js';
import type { CompressionContext, LayerCompression, LayerExperts } from '../../method.js';
import { denseExpert, layerWithoutCentre } from '../whole.js';

/** Which experts become one, and how. */
export interface MergePlan {
  /** Every expert once. The first of a group is the one whose order of neurons the others take where they are aligned. */
  readonly groups: readonly (readonly number[])[];
  /** Weight of each expert within its group, at least 0; a group of nothing but zeros is averaged. */
  readonly weights: readonly number[];
  /** Whether the neurons of each expert are first put in the order of the first of the group. */
  readonly aligns: boolean;
}

/** Σ w T D / Σ w over each group. Merging experts that are the same loses nothing. */
export async function mergeGroups(
  layer: LayerExperts,
  { groups, weights, aligns }: MergePlan,
  { onProgress }: CompressionContext,
): Promise<LayerCompression> {
  const { numExperts, intermediateSize, hiddenSize, blocks, outputBiases } = layer;
  const expertOf = new Array<number>(numExperts).fill(-1);
  const experts: StoredExpert[] = [];
  const biases: Float32Array[] = [];
  const design = new Float32Array(designSize(layer));
  let [error, energy, done] = [0, 0, 0];
  const matcher = aligns ? await NeuronMatcher.open(intermediateSize, designWidth(blocks)) : undefined;
  try {
    for (const [index, group] of groups.entries()) {
      const shares = sharesOf(group.map((expert) => weights[expert]));
      const reference = await layer.readDesign(group[0]);
      const sum = new Float64Array(design.length);
      const bias = new Float64Array(hiddenSize);
      const orders: Int32Array[] = [];
      for (const [at, expert] of group.entries()) {
        await layer.readDesign(expert, design);
        const order =
          matcher && at > 0 ? await matcher.match(reference, design, expert) : identity(intermediateSize);
        orders.push(order);
        expertOf[expert] = index;
        addRows(sum, design, order, shares[at]);
        outputBiases?.[expert].forEach((value, i) => (bias[i] += shares[at] * value));
        onProgress?.({ stage: 'merging experts', done: ++done, total: numExperts });
      }
      const merged = Float32Array.from(sum);
      experts.push(denseExpert(layer, merged));
      biases.push(Float32Array.from(bias));
      for (const [at, expert] of group.entries()) {
        await layer.readDesign(expert, design);
        error += alignedDistance(merged, design, orders[at]) / numExperts;
        energy += energyOf(design) / numExperts;
      }
    }
  } finally {
    await matcher?.release();
  }
  return {
    layer: layerWithoutCentre(layer, experts, expertOf, outputBiases && biases),
    report: { error, energy },
  };
}

function sharesOf(weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (total === 0 ? 1 / weights.length : weight / total));
}

/** Adds the rows of a design in an order; in float64, so that the mean of equal experts is each of them. */
function addRows(sum: Float64Array, design: Float32Array, order: Int32Array, factor: number): void {
  const width = design.length / order.length;
  for (let row = 0; row < order.length; row++) {
    const [to, from] = [row * width, order[row] * width];
    for (let column = 0; column < width; column++) sum[to + column] += factor * design[from + column];
  }
}
