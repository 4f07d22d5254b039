import { type Tensor } from '../../src/graph/index.js';
import type { FeedForwardContext } from '../../src/moe/index.js';
import { NoiseInputs } from '../../src/nn/index.js';

/** A layer's surroundings, with a training flag and whatever a test wants to say besides. */
export function layerContext(
  options: Partial<FeedForwardContext> & { tokenMask?: Tensor | undefined } = {},
): FeedForwardContext {
  return {
    training: false,
    noise: new NoiseInputs(),
    layerIndex: 0,
    site: 'layer',
    batchSize: 1,
    ...options,
  };
}
