/**
 * The `sparse` section of a model's options, and how it becomes layers.
 * @module
 */
import { z } from 'zod';
import type { Module } from '../nn/index.js';
import type { FeedForward } from './feed-forward.js';
import { createKind } from './kind.js';
import { layerKinds, layerSchema } from './layers/index.js';
import type { LayerSizes } from './sizes.js';

/** Options of the sparse layers of a model; without a `kind` they are `experts`. */
export const sparseSchema = z.preprocess(
  (value) =>
    typeof value === 'object' && value !== null && !('kind' in value) ? { kind: 'experts', ...value } : value,
  layerSchema,
);

/** Parsed form of {@link sparseSchema}. */
export type SparseOptions = z.infer<typeof sparseSchema>;

/** Whether a block of the model is sparse: the last of every group of `every`, as in the reference code. */
export function isSparseBlock({ every }: Pick<SparseOptions, 'every'>, index: number): boolean {
  return index % every === every - 1;
}

/** Sparse blocks among `numLayers`. */
export function countSparseBlocks({ every }: Pick<SparseOptions, 'every'>, numLayers: number): number {
  return Math.floor(numLayers / every);
}

/** Builds the layer that the options describe. */
export function createSparseLayer(options: SparseOptions, sizes: LayerSizes): FeedForward & Module {
  return createKind(layerKinds, options, sizes);
}
