/** Experts of one layer for tests of compression: seeded, with or without a common ancestor. */
import {
  designBlocks,
  designSize,
  designWidth,
  type ColumnBlock,
  type DesignRole,
} from '../../src/checkpoints/index.js';
import type { LayerExperts } from '../../src/compress/index.js';
import { fillNormal, RandomStream, streamKey } from '../../src/nn/index.js';

/** What {@link makeExperts} makes. */
export interface ExpertsPlan {
  readonly numExperts: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly roles?: readonly DesignRole[];
  /** Standard deviation of each expert's own part beside a common ancestor's 1; infinite: nothing in common. */
  readonly spread?: number;
  /** Whether each expert's neurons are put in an order of their own. */
  readonly shuffled?: boolean;
  readonly seed?: number;
}

/** A layer in memory with its design matrices. */
export interface MadeExperts extends LayerExperts {
  readonly designs: readonly Float32Array[];
}

/** A layer over design matrices that are there already. */
export function layerOf(
  designs: readonly Float32Array[],
  hiddenSize: number,
  blocks: readonly ColumnBlock[],
): MadeExperts {
  return {
    name: 'blocks.0',
    numExperts: designs.length,
    hiddenSize,
    intermediateSize: designs[0].length / designWidth(blocks),
    blocks,
    designs,
    readDesign: (expert, into = new Float32Array(designs[expert].length)) => {
      into.set(designs[expert]);
      return Promise.resolve(into);
    },
  };
}

/** Experts = ancestor + spread · noise, in shuffled order where asked for. */
export function makeExperts(plan: ExpertsPlan): MadeExperts {
  const { numExperts, hiddenSize, intermediateSize, roles = ['up', 'down'], spread = 0.1, seed = 0 } = plan;
  const blocks = designBlocks({ hiddenSize, roles });
  const size = designSize({ hiddenSize, intermediateSize, blocks });
  const ancestor = new Float32Array(size);
  if (spread !== Infinity) fillNormal(streamKey(seed, 'ancestor'), ancestor);
  const designs = Array.from({ length: numExperts }, (_, expert) => {
    const own = new Float32Array(size);
    fillNormal(streamKey(seed, expert), own, spread === Infinity ? 1 : spread);
    for (let i = 0; i < size; i++) own[i] += ancestor[i];
    return plan.shuffled
      ? takeRows(own, randomOrder(intermediateSize, streamKey(seed, 'order', expert)))
      : own;
  });
  return layerOf(designs, hiddenSize, blocks);
}

/** Rows of a matrix in another order. */
export function takeRows(matrix: Float32Array, order: ArrayLike<number>): Float32Array {
  const width = matrix.length / order.length;
  const taken = new Float32Array(matrix.length);
  for (let row = 0; row < order.length; row++)
    taken.set(matrix.subarray(order[row] * width, (order[row] + 1) * width), row * width);
  return taken;
}

/** A seeded shuffle of 0 … length − 1. */
export function randomOrder(length: number, key: number): Int32Array {
  const order = Int32Array.from({ length }, (_, i) => i);
  const random = new RandomStream(key);
  for (let i = length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
