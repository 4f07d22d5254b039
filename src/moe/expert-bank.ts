/**
 * Third socket: the experts.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { FeedForwardContext } from './feed-forward.js';

/** Rows sorted by expert. */
export interface ExpertRows {
  /** One `[rows, hiddenSize]` per expert; rows is static, or named where only a run knows it. */
  readonly pieces: readonly Tensor[];
  /** Rows of all pieces together. */
  readonly totalRows: number;
  /** Int64 `[numExperts]`: rows per piece, where they are known only at run time. */
  readonly counts?: Tensor;
}

/** `numExperts` small networks of the same shape. */
export interface ExpertBank {
  readonly numExperts: number;
  /** Runs every expert on its own rows; the result has one tensor of the same shape per expert. */
  forward(rows: ExpertRows, context: FeedForwardContext): readonly Tensor[];
}
