/**
 * Attention over a fixed span of previous steps with learned relative keys: the backbone of ACMoE's language models
 * (arXiv 2502.15315; the layer comes from adaptive-span Transformers, arXiv 1905.07799).
 * @module
 */
import { add, concat, matmul, multiply, reshape, slice, split, type Tensor } from '../graph/index.js';
import {
  joinHeads,
  probabilityDropout,
  splitHeads,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionSizes,
} from './attention.js';
import type { TraceContext } from './context.js';
import type { Initializer } from './initializers.js';
import { Linear } from './layers.js';
import { Module, Parameter } from './module.js';
import { attendScores, blockSizes, dropBlock, scoreMask, skewRight } from './relative-scores.js';

/** One key per distance, for all heads and layers: column r belongs to the distance span − r. */
export class SpanPositions extends Module {
  /** `[headSize, span]` */
  readonly weight: Parameter;

  constructor(headSize: number, span: number, initializer: Initializer) {
    super();
    this.weight = new Parameter([headSize, span], initializer);
  }
}

/**
 * `softmax((q · k_j + q · E_{span − (i − j)}) / √headSize) V` over exactly the `span` steps before i, i itself excluded.
 */
export class SpanAttention extends Module implements AttentionLayer {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;

  constructor(
    private readonly sizes: Omit<AttentionSizes, 'numKeyValueHeads'>,
    weight: Initializer,
    outputWeight: Initializer = weight,
  ) {
    super();
    const { hiddenSize, numHeads, headSize, bias = false } = sizes;
    const width = numHeads * headSize;
    this.query = new Linear(hiddenSize, width, weight, { bias });
    this.key = new Linear(hiddenSize, width, weight, { bias });
    this.value = new Linear(hiddenSize, width, weight, { bias });
    this.output = new Linear(width, hiddenSize, outputWeight, { bias });
  }

  /**
   * `[batch, time, hiddenSize]` → the same shape. `inputs.memory` is the states of the `span` steps before the segment
   * and the segment, `[batch, span + time, hiddenSize]`; `inputs.relativePositions` the weight of {@link SpanPositions}.
   * @throws RangeError if the memory is not `span` steps long.
   */
  forward(x: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor {
    const { numHeads, headSize } = this.sizes;
    const { blockSize = 64, keyMask, relativePositions, memory = x } = inputs;
    if (!relativePositions) throw new Error('span attention needs its relative keys');
    const [batch, time] = x.shape as [number, number];
    const keyTime = memory.shape[1] as number;
    const span = relativePositions.shape[1] as number;
    if (keyTime !== span + time) {
      throw new RangeError(`a span of ${span} needs a memory of ${span} steps, not ${keyTime - time}`);
    }
    const sizes = blockSizes(time, blockSize);
    const pieceSizes = blockSizes(keyTime, blockSize);
    const pieces = (linear: Linear): readonly Tensor[] =>
      split(splitHeads(linear.forward(memory), numHeads), pieceSizes, 2);
    const [keys, values] = [pieces(this.key), pieces(this.value)];
    const query = multiply(splitHeads(this.query.forward(x), numHeads), 1 / Math.sqrt(headSize));
    const drop = probabilityDropout(inputs, context);
    const blocks = split(query, sizes, 2).map((part, block) => {
      const rows = sizes[block];
      const start = block * blockSize;
      // Whole pieces, so that the gradients of keys and values add up piece by piece.
      const end = Math.min(keyTime, blockSize * Math.ceil((start + rows + span - 1) / blockSize));
      const window = (x: readonly Tensor[]): Tensor => concat(x.slice(block, Math.ceil(end / blockSize)), 2);
      const byDistance = matmul(reshape(part, [batch * numHeads * rows, headSize]), relativePositions);
      const scores = add(
        matmul(part, window(keys), { transposeB: true }),
        skewRight(reshape(byDistance, [batch, numHeads, rows, span]), end - start),
      );
      return attendScores(scores, window(values), {
        mask: scoreMask([rows, end - start], { least: 0, most: span - 1 }, x.dtype),
        keyMask: keyMask && slice(keyMask, 1, start, end),
        drop: dropBlock(drop, block),
      });
    });
    return this.output.forward(joinHeads(concat(blocks, 2)));
  }
}
