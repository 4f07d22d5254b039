/**
 * Attention with the relative positions of Transformer-XL (Dai et al., arXiv 1901.02860 §3.3), as σ-MoE's backbone uses
 * it (arXiv 2310.10837).
 * @module
 */
import {
  add,
  concat,
  constant,
  matmul,
  multiply,
  reshape,
  slice,
  split,
  type DType,
  type Tensor,
} from '../graph/index.js';
import {
  joinHeads,
  probabilityDropout,
  splitHeads,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionSizes,
} from './attention.js';
import type { TraceContext } from './context.js';
import { constantValue, zeros, type Initializer } from './initializers.js';
import { Linear } from './layers.js';
import { Module, Parameter } from './module.js';
import { attendScores, blockSizes, dropBlock, scoreMask, shiftLeft } from './relative-scores.js';

/**
 * Sines and cosines of the distances `length − 1` … 0, one row each: `[length, size]`, first all sines, then all cosines.
 * @throws RangeError if the size is odd.
 */
export function sinusoidTable(length: number, size: number, dtype: DType): Tensor {
  if (size % 2 !== 0) throw new RangeError(`sinusoid positions need an even size, not ${size}`);
  const half = size / 2;
  const data = Float64Array.from({ length: length * size }, (_, at) => {
    const distance = length - 1 - Math.floor(at / size);
    const column = at % size;
    const angle = distance * Math.pow(10_000, -(column % half) / half);
    return column < half ? Math.sin(angle) : Math.cos(angle);
  });
  return constant(dtype, [length, size], data);
}

/**
 * `softmax(s · ((q + u) · k + (q + v) · W_p R(i − j))) V` with u, v a vector per head, R the sinusoid of the distance
 * and s = 1 / √headSize, learned or fixed. Keys are those of the memory and of the segment; a query sees all of the
 * memory and the segment up to its own position.
 */
export class TransformerXLAttention extends Module implements AttentionLayer {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  /** W_p. */
  readonly position: Linear;
  /** u: `[numHeads, headSize]`. */
  readonly contentBias: Parameter;
  /** v: `[numHeads, headSize]`. */
  readonly positionBias: Parameter;
  /** s; absent when it is fixed. */
  readonly scale: Parameter | undefined;

  constructor(
    private readonly sizes: Omit<AttentionSizes, 'numKeyValueHeads'> & { readonly learnedScale: boolean },
    weight: Initializer,
    outputWeight: Initializer = weight,
  ) {
    super();
    const { hiddenSize, numHeads, headSize, bias = false, learnedScale } = sizes;
    const width = numHeads * headSize;
    this.query = new Linear(hiddenSize, width, weight, { bias });
    this.key = new Linear(hiddenSize, width, weight, { bias });
    this.value = new Linear(hiddenSize, width, weight, { bias });
    this.output = new Linear(width, hiddenSize, outputWeight, { bias });
    this.position = new Linear(hiddenSize, width, weight);
    this.contentBias = new Parameter([numHeads, headSize], zeros, false);
    this.positionBias = new Parameter([numHeads, headSize], zeros, false);
    this.scale = learnedScale ? new Parameter([1], constantValue(1 / Math.sqrt(headSize)), false) : undefined;
  }

  /**
   * `[batch, time, hiddenSize]` → the same shape. `inputs.memory` is memory and segment, `[batch, keyTime, hiddenSize]`
   * with the segment last; `inputs.relativePositions` the {@link sinusoidTable} of keyTime rows.
   */
  forward(x: Tensor, inputs: AttentionInputs, context: TraceContext): Tensor {
    const { numHeads, headSize } = this.sizes;
    const { blockSize = 64, keyMask, relativePositions, memory = x } = inputs;
    if (!relativePositions) throw new Error('Transformer-XL attention needs the table of its distances');
    const scale = this.scale?.tensor ?? 1 / Math.sqrt(headSize);
    const query = splitHeads(this.query.forward(x), numHeads);
    const biased = ({ tensor }: Parameter): Tensor =>
      multiply(add(query, reshape(tensor, [numHeads, 1, headSize])), scale);
    const [time, keyTime] = [x.shape[1] as number, memory.shape[1] as number];
    const remembered = keyTime - time;
    const sizes = blockSizes(time, blockSize);
    const positions = splitHeads(
      reshape(this.position.forward(relativePositions), [1, keyTime, numHeads * headSize]),
      numHeads,
    );
    const keys = prefixes(splitHeads(this.key.forward(memory), numHeads), remembered, sizes);
    const values = prefixes(splitHeads(this.value.forward(memory), numHeads), remembered, sizes);
    const forPositions = split(biased(this.positionBias), sizes, 2);
    const drop = probabilityDropout(inputs, context);
    const blocks = split(biased(this.contentBias), sizes, 2).map((forContent, block) => {
      const rows = sizes[block];
      const first = remembered + block * blockSize;
      const visible = first + rows;
      const distances = visible === keyTime ? positions : slice(positions, 2, keyTime - visible, keyTime);
      const scores = add(
        matmul(forContent, keys[block], { transposeB: true }),
        shiftLeft(matmul(forPositions[block], distances, { transposeB: true })),
      );
      return attendScores(scores, values[block], {
        mask: scoreMask([rows, visible], { least: -rows, most: first }, x.dtype),
        keyMask: keyMask && slice(keyMask, 1, 0, visible),
        drop: dropBlock(drop, block),
      });
    });
    return this.output.forward(joinHeads(concat(blocks, 2)));
  }
}

/** For each block of queries the keys up to its end, joined from the same pieces: their gradients add up piece by piece. */
function prefixes(x: Tensor, remembered: number, sizes: readonly number[]): Tensor[] {
  const before = remembered > 0 ? [remembered] : [];
  const pieces = split(x, [...before, ...sizes], 2);
  return sizes.map((_, block) =>
    block === sizes.length - 1 ? x : concat(pieces.slice(0, before.length + block + 1), 2),
  );
}
