/**
 * Third socket: the experts.
 * @module
 */
import type { Dim, Tensor } from '../graph/index.js';
import type { Module } from '../nn/index.js';
import type { FeedForwardContext, TokenCost } from './feed-forward.js';

/** Rows sorted by expert. */
export interface ExpertRows {
  /** One `[rows, hiddenSize]` per expert; rows is static, or named where only a run knows it. */
  readonly pieces: readonly Tensor[];
  /** Rows of all pieces together, those of `spare` included. */
  readonly totalRows: number;
  /** Int64 `[numExperts]`: rows per piece, where they are known only at run time. */
  readonly counts?: Tensor;
  /** Choices that nobody made: a size known at run time, and the int64 `[numExperts + 1]` counts with it at the end. */
  readonly spare?: { readonly size: Dim; readonly counts: Tensor };
}

/** `numExperts` small networks of the same shape. */
export interface ExpertBank {
  readonly numExperts: number;
  /** One row through one expert. */
  readonly costPerRow: TokenCost;
  /** What {@link prepare} and {@link finish} take for each token, however many experts it visits. */
  readonly sharedCost?: TokenCost;
  /**
   * Work that is the same for every expert, done once for each token: `[tokens, hiddenSize]` → `[tokens, any]`, which is
   * then brought to the experts instead.
   */
  prepare?(hidden: Tensor): Tensor;
  /**
   * Runs every expert on its own rows; the result has one tensor of as many rows per expert, `[rows, hiddenSize]`, or what
   * {@link finish} takes.
   */
  forward(rows: ExpertRows, context: FeedForwardContext): readonly Tensor[];
  /**
   * A bank of one such expert, without values: its program serves every expert of the bank, whose weights it is fed. It
   * takes what {@link prepare} made, and what all experts have in common is not part of its program.
   */
  alone(): ExpertBank & Module;
  /** Work on the weighted sum of a token's outputs, in which it is linear: `[tokens, any]` → `[tokens, hiddenSize]`. */
  finish?(combined: Tensor): Tensor;
}
