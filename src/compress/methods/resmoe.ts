/**
 * ResMoE: a centre that all experts share, and what is left of each expert beside it, made small (KDD 2025,
 * arXiv 2503.06881, §3–4).
 * @module
 */
import { z } from 'zod';
import { createKind, type Kind, type KindSchema } from '../../moe/index.js';
import { streamKey } from '../../nn/index.js';
import { roundFloats, type StoredExpert } from '../../checkpoints/index.js';
import { assertBijection, residualOf } from '../align.js';
import { perExpertRatio } from '../budget.js';
import { centreKinds, centreSchema } from '../centres/index.js';
import { matrixCompressorNames, matrixCompressors } from '../matrices/index.js';
import { scopes } from '../matrix-compressor.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { redundancyOf } from '../redundancy.js';

const schema = z.strictObject({
  kind: z.literal('resmoe'),
  /** What all experts share. */
  centre: centreSchema.prefault({ kind: 'barycenter' }),
  /** How what is left of an expert is made small. */
  residual: z.enum(matrixCompressorNames).default('up'),
  /** Whether a residual is cut as one matrix or block by block. */
  scope: z.enum(scopes).default('concat'),
});

/** See the module. */
export class ResMoE implements CompressionMethod {
  readonly needsCalibration = false;

  constructor(private readonly options: z.output<typeof schema>) {}

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { name, numExperts, intermediateSize, hiddenSize, blocks, outputBiases } = layer;
    const ratio = perExpertRatio(context.budget, numExperts, true);
    const finder = createKind(centreKinds, this.options.centre, undefined);
    const found = await finder.find(layer, context.onProgress);
    const { permutations, objective, energies, residuals } = found;
    const centre = layer.dtype ? roundFloats(layer.dtype, found.centre) : found.centre;
    const redundancy = redundancyOf(energies, residuals);
    context.onRedundancy?.(redundancy);
    const compressor = matrixCompressors[this.options.residual](this.options.scope);
    const experts: StoredExpert[] = [];
    const design = new Float32Array(centre.length);
    let error = 0;
    let truncationExcess: number | undefined;
    try {
      for (let expert = 0; expert < numExperts; expert++) {
        assertBijection(permutations[expert]);
        await layer.readDesign(expert, design);
        const values = residualOf(centre, design, permutations[expert]);
        const residual = { rows: intermediateSize, blocks, values };
        context.onResidual?.(expert, residual);
        const seed = streamKey(context.seed ?? 0, name, expert);
        const small = await compressor.compress(residual, ratio, seed);
        experts.push({ matrices: small.matrices });
        error += small.error / numExperts;
        if (small.truncationExcess !== undefined)
          truncationExcess = Math.max(truncationExcess ?? 0, small.truncationExcess);
        context.onProgress?.({ stage: 'compressing residuals', done: expert + 1, total: numExperts });
      }
    } finally {
      await compressor.release();
    }
    const energy = energies.reduce((sum, one) => sum + one, 0) / numExperts;
    return {
      layer: {
        name,
        intermediateSize,
        hiddenSize,
        blocks,
        centre,
        experts,
        expertOf: experts.map((_, expert) => expert),
        ...(outputBiases ? { outputBiases } : {}),
      },
      report: {
        error,
        energy,
        redundancy,
        objective,
        ...(truncationExcess === undefined ? {} : { truncationExcess }),
      },
    };
  }
}

/** See the module. */
export const resmoe = {
  schema,
  create: (options: z.output<typeof schema>) => new ResMoE(options),
} satisfies Kind<KindSchema, void, CompressionMethod>;
