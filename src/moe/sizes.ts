/**
 * What the model has already fixed when a part of a sparse layer is made.
 * @module
 */
import { z } from 'zod';
import {
  normal,
  uniform,
  weightInitializer,
  zeros,
  type Initializer,
  type WeightInitialization,
} from '../nn/index.js';
import type { ActivationName } from './activations.js';
import type { RouterPool } from './router-sharing.js';

/** What the model around a feed-forward layer has fixed. */
export interface LayerSizes {
  readonly hiddenSize: number;
  /** Width of the model's dense feed-forward layers. */
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  readonly bias: boolean;
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon?: number | undefined;
  readonly initialization: WeightInitialization;
  /** Spread of the output projections, which some recipes scale by depth. */
  readonly outputInitialization: WeightInitialization;
  readonly vocabSize: number;
  readonly contextLength: number;
  /** Blocks of the model, or of the layer's stack where there are two. */
  readonly numLayers: number;
  /** Index of the layer's block in them. */
  readonly layerIndex: number;
  /** How many sparse layers of them come before this one. */
  readonly sparseIndex: number;
  /** Sparse blocks among {@link numLayers}. */
  readonly numStackSparseLayers: number;
  /** Sparse blocks of the whole model; those of encoder and decoder together. */
  readonly numSparseLayers: number;
  /** Dropout rate of the model. */
  readonly dropout: number;
  /** Inside networks that every token passes; as {@link dropout} when absent. */
  readonly activationDropout?: number | undefined;
  /** Routers that several layers of the model may share. */
  readonly routers: RouterPool;
}

/** The same with the sizes of one sparse layer; `intermediateSize` is the width inside one expert. */
export interface SparseLayerSizes extends LayerSizes {
  readonly numExperts: number;
  readonly topK: number;
}

/** How the logits' matrix of a router starts. */
export const classifierInitializer = {
  options: {
    /** σ of the router's weights; see `uniformInitialization`, or the model's own rule, when absent. */
    standardDeviation: z.number().positive().optional(),
    /** Uniform in ±1/√hiddenSize, a bias too, as PyTorch's Linear starts. */
    uniformInitialization: z.boolean().default(false),
  },
  create(
    {
      standardDeviation,
      uniformInitialization,
    }: { readonly standardDeviation?: number | undefined; readonly uniformInitialization: boolean },
    { hiddenSize, initialization }: LayerSizes,
  ): Initializer {
    if (standardDeviation !== undefined) return normal(standardDeviation);
    return uniformInitialization
      ? uniform(1 / Math.sqrt(hiddenSize))
      : weightInitializer(initialization, hiddenSize);
  },
  /** How the bias beside that matrix starts, where there is one. */
  createBias(
    { uniformInitialization }: { readonly uniformInitialization: boolean },
    { hiddenSize }: LayerSizes,
  ): Initializer {
    return uniformInitialization ? uniform(1 / Math.sqrt(hiddenSize)) : zeros;
  },
} as const;
