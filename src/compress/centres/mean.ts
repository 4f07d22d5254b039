/**
 * The plain average of the experts, neurons in the order in which they are stored.
 * @module
 */
import { averageInto, alignedDistance, energyOf, identity } from '../align.js';
import type { Alignment, CentreFinder } from '../centre.js';
import { z } from 'zod';
import { designSize } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';

/** (1/N) Σ D, T = identity: what the barycenter is compared with (ResMoE, §5 "average"). */
export class MeanCentre implements CentreFinder {
  async find(...[layer, onProgress]: Parameters<CentreFinder['find']>): Promise<Alignment> {
    const { numExperts, intermediateSize } = layer;
    const order = identity(intermediateSize);
    const centre = new Float32Array(designSize(layer));
    const design = new Float32Array(centre.length);
    const energies: number[] = [];
    const residuals: number[] = [];
    const total = 2 * numExperts;
    for (let expert = 0; expert < numExperts; expert++) {
      await layer.readDesign(expert, design);
      energies.push(energyOf(design));
      averageInto(centre, design, order, expert + 1);
      onProgress?.({ stage: 'averaging experts', done: expert + 1, total });
    }
    for (let expert = 0; expert < numExperts; expert++) {
      await layer.readDesign(expert, design);
      residuals.push(alignedDistance(centre, design, order));
      onProgress?.({ stage: 'averaging experts', done: numExperts + expert + 1, total });
    }
    const objective = [residuals.reduce((sum, residual) => sum + residual, 0) / numExperts];
    return { centre, permutations: energies.map(() => order), objective, energies, residuals };
  }
}

/** The plain average. */
export const mean = {
  schema: z.strictObject({ kind: z.literal('mean') }),
  create: () => new MeanCentre(),
} satisfies Kind<KindSchema, void, CentreFinder>;
