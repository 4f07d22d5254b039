/**
 * Every expert cut by itself, without a centre: UP-concat, UP-sep, SVD-concat and SVD-sep of ResMoE's comparison
 * (arXiv 2503.06881, §5; §12 of its spec).
 *
 * `concat` takes the whole design matrix as one; `sep` each weight matrix alone with a budget of its own.
 * @module
 */
import { z } from 'zod';
import { designSize, type StoredExpert } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { streamKey } from '../../nn/index.js';
import { energyOf } from '../align.js';
import { perExpertRatio } from '../budget.js';
import { matrixCompressorNames, matrixCompressors } from '../matrices/index.js';
import { scopes } from '../matrix-compressor.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { layerWithoutCentre } from './whole.js';

const schema = z.strictObject({
  kind: z.literal('direct'),
  /** How an expert is made small. */
  compressor: z.enum(matrixCompressorNames).default('up'),
  /** Whether an expert is cut as one matrix or block by block. */
  scope: z.enum(scopes).default('concat'),
});

class Direct implements CompressionMethod {
  readonly needsCalibration = false;

  constructor(private readonly options: z.output<typeof schema>) {}

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { name, numExperts, intermediateSize: rows, blocks } = layer;
    const ratio = perExpertRatio(context.budget, numExperts, false);
    const compressor = matrixCompressors[this.options.compressor](this.options.scope);
    const values = new Float32Array(designSize(layer));
    const experts: StoredExpert[] = [];
    let [error, energy] = [0, 0];
    let truncationExcess: number | undefined;
    try {
      for (let expert = 0; expert < numExperts; expert++) {
        await layer.readDesign(expert, values);
        energy += energyOf(values) / numExperts;
        const seed = streamKey(context.seed ?? 0, name, expert);
        // What is kept whole would otherwise be the buffer that the next expert is read into.
        const matrix = { rows, blocks, values: values.slice() };
        const small = await compressor.compress(matrix, ratio, seed);
        experts.push({ matrices: small.matrices });
        error += small.error / numExperts;
        if (small.truncationExcess !== undefined)
          truncationExcess = Math.max(truncationExcess ?? 0, small.truncationExcess);
        context.onProgress?.({ stage: 'compressing experts', done: expert + 1, total: numExperts });
      }
    } finally {
      await compressor.release();
    }
    return {
      layer: layerWithoutCentre(layer, experts),
      report: { error, energy, ...(truncationExcess === undefined ? {} : { truncationExcess }) },
    };
  }
}

/** See the module. */
export const direct = {
  schema,
  create: (options: z.output<typeof schema>): CompressionMethod => new Direct(options),
} satisfies Kind<KindSchema, void, CompressionMethod>;
