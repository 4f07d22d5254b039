import { type Tensor } from '../../src/graph/index.js';
import { RouterPool, type FeedForwardContext, type SparseLayerSizes } from '../../src/moe/index.js';
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
    causal: true,
    ...options,
  };
}

/** What a model around a layer would have fixed: a ReLU model of three blocks. */
export function layerSizes(
  hiddenSize = 4,
  intermediateSize = 6,
): Omit<SparseLayerSizes, 'numExperts' | 'topK'> {
  const initialization = { kind: 'normal', scale: 1, standardDeviation: 1 } as const;
  return {
    hiddenSize,
    intermediateSize,
    activation: 'relu',
    bias: false,
    norm: 'rms',
    initialization,
    outputInitialization: initialization,
    vocabSize: 11,
    contextLength: 8,
    numLayers: 3,
    layerIndex: 1,
    sparseIndex: 0,
    numStackSparseLayers: 3,
    numSparseLayers: 3,
    dropout: 0,
    routers: new RouterPool(),
  };
}
