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

/** Which blocks are sparse. */
export type SparsePlacement = Pick<SparseOptions, 'every' | 'layers'>;

/**
 * Whether a block of the model is sparse: one of the listed, or the last of every group of `every`, as in the reference
 * code.
 *
 * @param index of the block in its stack.
 * @param firstLayer index of the stack's first block among all blocks of the model, which lists count by.
 */
export function isSparseBlock({ every, layers }: SparsePlacement, index: number, firstLayer = 0): boolean {
  return layers ? layers.includes(firstLayer + index) : index % every === every - 1;
}

/** Sparse blocks among the first `numLayers` of a stack. */
export function countSparseBlocks(placement: SparsePlacement, numLayers: number, firstLayer = 0): number {
  return Array.from({ length: numLayers }, (_, index) => isSparseBlock(placement, index, firstLayer)).filter(
    Boolean,
  ).length;
}

/**
 * What is wrong with a placement in a model of so many blocks; undefined when nothing is.
 *
 * @param numLayers blocks of each stack.
 */
export function placementProblem(
  { every, layers }: SparsePlacement,
  numLayers: readonly number[],
): { readonly key: 'every' | 'layers'; readonly message: string } | undefined {
  const total = numLayers.reduce((sum, count) => sum + count, 0);
  const longest = Math.max(...numLayers);
  if (!layers) {
    if (every <= longest) return undefined;
    const all = numLayers.length === 1 ? `numLayers ${longest}` : `the ${longest} layers of a stack`;
    return { key: 'every', message: `every ${every} is more than ${all}: no layer would be sparse` };
  }
  const wrong = (message: string) => ({ key: 'layers', message }) as const;
  if (every !== 1) return wrong(`layers and every ${every} both say which blocks are sparse; keep one`);
  const beyond = layers.find((layer) => layer >= total);
  if (beyond !== undefined) return wrong(`there is no block ${beyond}: the model has ${total}`);
  if (layers.some((layer, at) => at > 0 && layer <= layers[at - 1]))
    return wrong('list each block once, in order');
  return undefined;
}

/** Builds the layer that the options describe. */
export function createSparseLayer(options: SparseOptions, sizes: LayerSizes): FeedForward & Module {
  return createKind(layerKinds, options, sizes);
}
