/**
 * MLP-Fusion (ICML 2023, in ResMoE's comparison: §12 of its spec): the rows of an expert's design matrix are clustered by
 * k-means, and each cluster becomes one neuron, its mean, that counts for all of them.
 *
 * The count goes on the weights out of the neuron, which is right for any activation and for gated experts. The released
 * code puts its root on the weights in and out instead (`sqrt`), which is the same function for ReLU and for no other.
 * @module
 */
import { z } from 'zod';
import { designSize, designWidth, type ColumnBlock, type StoredExpert } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { streamKey } from '../../nn/index.js';
import { energyOf } from '../align.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { KMeans, type Clustering } from './k-means.js';
import { denseExpert, layerWithoutCentre, partsWithin } from './whole.js';

const schema = z.strictObject({
  kind: z.literal('mlpFusion'),
  /** Starts of k-means, of which the best counts; the released code has 30. */
  restarts: z.int().min(1).default(30),
  maxIterations: z.int().min(1).default(100),
  /** Where the size of a cluster goes: on the weights out (`count`), or its root on all (`sqrt`: ReLU, not gated). */
  scaling: z.enum(['count', 'sqrt']).default('count'),
});

class MlpFusion implements CompressionMethod {
  readonly needsCalibration = false;

  constructor(private readonly options: z.output<typeof schema>) {}

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { name, numExperts, intermediateSize, blocks } = layer;
    if (this.options.scaling === 'sqrt' && blocks.some(({ role }) => role === 'gate'))
      throw new RangeError(
        `${name}: its experts are gated, for which scaling sqrt is another function; use count`,
      );
    const count = partsWithin(context, layer, intermediateSize, 'neurons');
    const design = new Float32Array(designSize(layer));
    const experts: StoredExpert[] = [];
    let [error, energy] = [0, 0];
    const kMeans = await KMeans.open(intermediateSize, designWidth(blocks), count, this.options);
    try {
      for (let expert = 0; expert < numExperts; expert++) {
        await layer.readDesign(expert, design);
        const clustering = await kMeans.cluster(design, streamKey(context.seed ?? 0, name, expert));
        experts.push(denseExpert(layer, this.scale(clustering, blocks)));
        error += clustering.inertia / numExperts;
        energy += energyOf(design) / numExperts;
        context.onProgress?.({ stage: 'fusing neurons', done: expert + 1, total: numExperts });
      }
    } finally {
      await kMeans.release();
    }
    return { layer: layerWithoutCentre(layer, experts), report: { error, energy } };
  }

  /** Means that count for all of their cluster. */
  private scale({ centres, sizes }: Clustering, blocks: readonly ColumnBlock[]): Float32Array {
    const width = designWidth(blocks);
    const begin = width - blocks.find(({ role }) => role === 'down')!.width;
    sizes.forEach((size, cluster) => {
      const row = centres.subarray(cluster * width, (cluster + 1) * width);
      const [into, out] = this.options.scaling === 'sqrt' ? [Math.sqrt(size), Math.sqrt(size)] : [1, size];
      for (let column = 0; column < width; column++) row[column] *= column < begin ? into : out;
    });
    return centres;
  }
}

/** See the module. */
export const mlpFusion = {
  schema,
  create: (options: z.output<typeof schema>): CompressionMethod => new MlpFusion(options),
} satisfies Kind<KindSchema, void, CompressionMethod>;
