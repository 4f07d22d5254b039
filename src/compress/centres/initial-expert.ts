/**
 * The expert whose order of neurons an alignment starts from.
 * @module
 */
import { z } from 'zod';
import type { LayerExperts } from '../method.js';

/** Option `initialExpert`: q of the paper's code, whose Switch script tries them all. */
export const initialExpertSchema = z.int().min(0).default(0);

/** @throws RangeError if the layer has no such expert. */
export async function readInitial(layer: LayerExperts, expert: number): Promise<Float32Array> {
  if (expert >= layer.numExperts)
    throw new RangeError(
      `initialExpert is ${expert}, but ${layer.name} has experts 0 to ${layer.numExperts - 1}`,
    );
  return layer.readDesign(expert);
}
