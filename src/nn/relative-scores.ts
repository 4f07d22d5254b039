/**
 * What the two kinds of relative attention have in common: scores by distance moved to where their keys stand, and the
 * softmax over scores that were made by hand.
 * @module
 */
import {
  add,
  cast,
  customGradient,
  greater,
  less,
  logicalOr,
  matmul,
  multiply,
  pad,
  range,
  reshape,
  slice,
  softmax,
  subtract,
  sum,
  type DType,
  type Tensor,
} from '../graph/index.js';
import { HIDDEN_SCORE, type AttentionOptions } from './attention.js';

/** Sizes of consecutive blocks of `blockSize` that fill `length`. */
export function blockSizes(length: number, blockSize: number): number[] {
  return Array.from({ length: Math.ceil(length / blockSize) }, (_, block) =>
    Math.min(blockSize, length - block * blockSize),
  );
}

/**
 * Moves row i left by `rows − 1 − i` places: from scores by falling distance to scores by key, where the last row's
 * last key has distance 0. What enters at the right belongs to keys after the row's own position and must be masked.
 * A pad, a slice and reshapes (Transformer-XL, arXiv 1901.02860, appendix B): no gather.
 *
 * @param x `[batch, heads, rows, keys]`
 */
export function shiftLeft(x: Tensor): Tensor {
  const [batch, heads, rows, keys] = x.shape as [number, number, number, number];
  const flat = reshape(pad(x, 3, 1, 0), [batch, heads, rows * (keys + 1)]);
  return reshape(slice(flat, 2, rows, rows * (keys + 1)), x.shape);
}

/**
 * Moves row i right by i places into rows of `width`; other places must be masked.
 *
 * @param x `[batch, heads, rows, columns]`
 * @param width at least rows + columns − 1
 * @returns `[batch, heads, rows, width]`
 */
export function skewRight(x: Tensor, width: number): Tensor {
  const [batch, heads, rows, columns] = x.shape as [number, number, number, number];
  const flat = reshape(pad(x, 3, 0, width + 1 - columns), [batch, heads, rows * (width + 1)]);
  return reshape(slice(flat, 2, 0, rows * width), [batch, heads, rows, width]);
}

/**
 * `[rows, keys]`: 0 where a row sees a key, {@link HIDDEN_SCORE} elsewhere. Row i sees keys i + least … i + most. Made of
 * operators rather than as one constant: equal masks of all layers and blocks merge into one.
 */
export function scoreMask(
  [rows, keys]: readonly [number, number],
  { least, most }: { readonly least: number; readonly most: number },
  dtype: DType,
): Tensor {
  const offset = subtract(range(keys), reshape(range(rows), [rows, 1]));
  const hidden = logicalOr(less(offset, least), greater(offset, most));
  return multiply(cast(hidden, dtype), HIDDEN_SCORE);
}

/** What must not be seen, added to scores. */
export interface ScoreMasks {
  /** `[queryTime, keyTime]`, added. */
  readonly mask: Tensor;
  /** Float `[batch, keyTime]`: 1 for keys to see. */
  readonly keyMask?: Tensor | undefined;
  readonly drop?: ((probabilities: Tensor) => Tensor) | undefined;
}

/**
 * `softmax(scores + masks) V`, with the gradient in one pass over `[time, valueSize]` as in `scaledDotProductAttention`.
 *
 * @param scores `[batch, heads, queryTime, keyTime]`
 * @param value `[batch, heads, keyTime, valueSize]`
 */
export function attendScores(scores: Tensor, value: Tensor, { mask, keyMask, drop }: ScoreMasks): Tensor {
  let masked = add(scores, mask);
  if (keyMask) {
    const [batch, keyTime] = keyMask.shape;
    masked = add(masked, reshape(multiply(subtract(1, keyMask), HIDDEN_SCORE), [batch, 1, 1, keyTime]));
  }
  const probabilities = softmax(masked);
  if (drop) return matmul(drop(probabilities), value);
  const output = matmul(probabilities, value);
  return customGradient(output, [scores, value], (gradient) => {
    const rowSums = sum(multiply(gradient, output), -1, true);
    return [
      multiply(probabilities, subtract(matmul(gradient, value, { transposeB: true }), rowSums)),
      matmul(probabilities, gradient, { transposeA: true }),
    ];
  });
}

/** The dropout of one block of queries. */
export function dropBlock(
  drop: AttentionOptions['dropProbabilities'],
  block: number,
): ((probabilities: Tensor) => Tensor) | undefined {
  return drop && ((probabilities) => drop(probabilities, block));
}
