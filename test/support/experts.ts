/** Experts of one layer for tests of compression: seeded, with or without a common ancestor. */
import {
  designBlocks,
  designSize,
  designWidth,
  type ColumnBlock,
  type DesignRole,
} from '../../src/checkpoints/index.js';
import type { LayerCalibration, LayerExperts } from '../../src/compress/index.js';
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

/** What an expert gives for a few inputs, in plain loops: ReLU, or SiLU times up where gated. */
export function expertOutputs(design: Float32Array, { blocks, hiddenSize }: LayerExperts): number[] {
  const width = designWidth(blocks);
  const starts = new Map<DesignRole, number>();
  let begin = 0;
  for (const block of blocks) {
    starts.set(block.role, begin);
    begin += block.width;
  }
  const inputs = [1, 2, 3].map((k) => Array.from({ length: hiddenSize }, (_, i) => Math.sin(k * (i + 1))));
  return inputs.flatMap((x) => {
    const out = new Array<number>(hiddenSize).fill(0);
    for (let row = 0; row < design.length / width; row++) {
      const at = (role: DesignRole, i: number): number => design[row * width + starts.get(role)! + i];
      const project = (role: 'gate' | 'up', bias: 'gateBias' | 'upBias'): number =>
        x.reduce((sum, value, i) => sum + value * at(role, i), starts.has(bias) ? at(bias, 0) : 0);
      const up = project('up', 'upBias');
      const gate = starts.has('gate') ? project('gate', 'gateBias') : undefined;
      const inner = gate === undefined ? Math.max(0, up) : (gate / (1 + Math.exp(-gate))) * up;
      for (let i = 0; i < hiddenSize; i++) out[i] += inner * at('down', i);
    }
    return out;
  });
}

/** Statistics of a text that no model read: expert i gets i + 1 tokens. */
export function randomCalibration({
  numExperts,
  hiddenSize,
  intermediateSize,
}: LayerExperts): LayerCalibration {
  const lengths = (size: number, expert: number): Float32Array => {
    const numbers = new Float32Array(size);
    fillNormal(streamKey('lengths', size, expert), numbers);
    return numbers.map((value) => Math.abs(value) + 0.1);
  };
  const routerLogits = new Float32Array(40 * numExperts);
  fillNormal(streamKey('logits'), routerLogits);
  const experts = Array.from({ length: numExperts }, (_, expert) => expert);
  return {
    tokensOf: experts.map((expert) => expert + 1),
    inputNorms: experts.map((expert) => lengths(hiddenSize, expert)),
    hiddenNorms: experts.map((expert) => lengths(intermediateSize, expert)),
    routerLogits,
  };
}
