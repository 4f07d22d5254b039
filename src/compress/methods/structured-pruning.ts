/**
 * Structured pruning (SP of ResMoE's comparison, §12 of its spec; Li et al. 2017, arXiv 1608.08710): whole inner neurons
 * are dropped, those whose weights are smallest.
 * @module
 */
import { z } from 'zod';
import { designSize, designWidth, type StoredExpert } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { energyOf } from '../align.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { denseExpert, largestOf, layerWithoutCentre, partsWithin } from './whole.js';

const schema = z.strictObject({
  kind: z.literal('structuredPruning'),
  /** Length of a neuron's row of the design matrix, all that goes in and out of it: sum of magnitudes or of squares. */
  norm: z.enum(['l1', 'l2']).default('l2'),
});

class StructuredPruning implements CompressionMethod {
  readonly needsCalibration = false;

  constructor(private readonly options: z.output<typeof schema>) {}

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { numExperts, intermediateSize } = layer;
    const kept = partsWithin(context, layer, intermediateSize, 'neurons');
    const width = designWidth(layer.blocks);
    const design = new Float32Array(designSize(layer));
    const experts: StoredExpert[] = [];
    let [error, energy] = [0, 0];
    for (let expert = 0; expert < numExperts; expert++) {
      await layer.readDesign(expert, design);
      const scores = Float64Array.from({ length: intermediateSize }, (_, row) =>
        this.measure(design.subarray(row * width, (row + 1) * width)),
      );
      const values = new Float32Array(kept * width);
      largestOf(scores, kept).forEach((row, at) =>
        values.set(design.subarray(row * width, (row + 1) * width), at * width),
      );
      experts.push(denseExpert(layer, values));
      const before = energyOf(design);
      energy += before / numExperts;
      // Of what is kept whole nothing is lost, also where the sums are rounded.
      if (kept < intermediateSize) error += (before - energyOf(values)) / numExperts;
      context.onProgress?.({ stage: 'dropping neurons', done: expert + 1, total: numExperts });
    }
    return { layer: layerWithoutCentre(layer, experts), report: { error, energy } };
  }

  private measure(row: Float32Array): number {
    return this.options.norm === 'l2'
      ? energyOf(row)
      : row.reduce((sum, weight) => sum + Math.abs(weight), 0);
  }
}

/** See the module. */
export const structuredPruning = {
  schema,
  create: (options: z.output<typeof schema>): CompressionMethod => new StructuredPruning(options),
} satisfies Kind<KindSchema, void, CompressionMethod>;
