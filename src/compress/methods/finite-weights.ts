/**
 * Refuses weights that no method can work with.
 * @module
 */
import { energyOf } from '../align.js';
import type { CompressionContext, CompressionMethod, LayerCompression, LayerExperts } from '../method.js';

/** A method that sees finite weights only. */
export class FiniteWeights implements CompressionMethod {
  readonly needsCalibration: boolean;

  constructor(private readonly method: CompressionMethod) {
    this.needsCalibration = method.needsCalibration;
  }

  /** @throws RangeError that names the expert with a weight that is not finite. */
  compress(layer: LayerExperts, context: CompressionContext): Promise<LayerCompression> {
    const readDesign: LayerExperts['readDesign'] = async (expert, into) => {
      const design = await layer.readDesign(expert, into);
      // Squares of float32 numbers cannot overflow a float64 sum: it is finite if and only if they are.
      if (!Number.isFinite(energyOf(design)))
        throw new RangeError(
          `${layer.name}: expert ${expert} has a weight that is not a finite number: it cannot be compressed`,
        );
      return design;
    };
    return this.method.compress(Object.assign(Object.create(layer) as LayerExperts, { readDesign }), context);
  }
}
