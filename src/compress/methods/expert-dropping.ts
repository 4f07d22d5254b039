/**
 * Expert dropping (the expert pruning of ResMoE's comparison, §12 of its spec; Chen et al. 2022, arXiv 2206.00277): some
 * experts are kept as they are, the others are gone. The router is left as it was: a token that it sends to a dropped
 * expert gets nothing from it and goes on by the residual connection.
 * @module
 */
import { z } from 'zod';
import type { StoredExpert } from '../../checkpoints/index.js';
import type { Kind, KindSchema } from '../../moe/index.js';
import { energyOf } from '../align.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';
import { denseExpert, largestOf, layerWithoutCentre, partsWithin } from './whole.js';

const schema = z.strictObject({
  kind: z.literal('expertDropping'),
  /** `frequency`: the experts with the most tokens of a text stay; `weights`: those with the largest weights, no text. */
  by: z.enum(['frequency', 'weights']).default('weights'),
});

class ExpertDropping implements CompressionMethod {
  readonly needsCalibration: boolean;

  constructor({ by }: z.output<typeof schema>) {
    this.needsCalibration = by === 'frequency';
  }

  async compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const { name, numExperts, calibration, outputBiases } = layer;
    if (this.needsCalibration && !calibration)
      throw new RangeError(`${name}: dropping experts by frequency needs to know where a text was sent`);
    const count = partsWithin(context, layer, numExperts, 'experts');
    const energies: number[] = [];
    for (let expert = 0; expert < numExperts; expert++) {
      energies.push(energyOf(await layer.readDesign(expert)));
      context.onProgress?.({ stage: 'measuring experts', done: expert + 1, total: numExperts });
    }
    const kept = largestOf(this.needsCalibration ? calibration!.tokensOf : energies, count);
    const experts: StoredExpert[] = [];
    for (const expert of kept) experts.push(denseExpert(layer, await layer.readDesign(expert)));
    const expertOf = energies.map((_, expert) => kept.indexOf(expert));
    const mean = (numbers: readonly number[]): number =>
      numbers.reduce((sum, one) => sum + one, 0) / numExperts;
    return {
      layer: layerWithoutCentre(
        layer,
        experts,
        expertOf,
        outputBiases && kept.map((expert) => outputBiases[expert]),
      ),
      report: { error: mean(energies.filter((_, expert) => expertOf[expert] < 0)), energy: mean(energies) },
    };
  }
}

/** See the module. */
export const expertDropping = {
  schema,
  create: (options: z.output<typeof schema>): CompressionMethod => new ExpertDropping(options),
} satisfies Kind<KindSchema, void, CompressionMethod>;
