/**
 * Third socket: the experts.
 * @module
 */
import type { Dim, Tensor } from '../graph/index.js';
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

/** The weights of one expert by the names of the bank's parameters, however their matrices lie. */
export interface ExpertWeights {
  /** `Wᵀ x` for a matrix that is `[in, out]` in the bank: `[in, tokens]` → `[out, tokens]`. */
  project(name: string, columns: Tensor): Tensor;
  /** `W x` for the same matrix: `[out, tokens]` → `[in, tokens]`. */
  projectBack(name: string, columns: Tensor): Tensor;
  /** A bias as a column, `[out, 1]`. */
  bias(name: string): Tensor;
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
   * One expert outside training, over tokens as columns: `[width, tokens]` of what {@link prepare} made → `[any, tokens]`
   * of what {@link finish} takes. With the weight as the left factor of every product it is read as it lies, which is why
   * experts that are computed by themselves are computed so (docs/performance.md). Absent where experts are never apart.
   */
  columns?(columns: Tensor, weights: ExpertWeights): Tensor;
  /** Work on the weighted sum of a token's outputs, in which it is linear: `[tokens, any]` → `[tokens, hiddenSize]`. */
  finish?(combined: Tensor): Tensor;
}
