/**
 * The experts of one layer, stored small: what a compression method makes and what the compressed format keeps.
 *
 * An expert is a sum over its inner neurons, so it is a matrix with one row per neuron: its design matrix (ResMoE,
 * arXiv 2503.06881 §3.1). A row holds what goes into the neuron and what comes out of it, in the order of
 * {@link designRoles}. The order of the rows has no meaning.
 * @module
 */
import type { SparseIndex } from './sparse-index.js';

/**
 * Parts of a row, in their order: weights into the gate and its bias, weights into the neuron and its bias, weights out
 * of it. An expert without gate or biases has fewer. In the paper's letters: W1, b1, W3, b3, W2ᵀ where gated; W1, b1,
 * W2ᵀ (`up`, `upBias`, `down`) where not.
 */
export const designRoles = ['gate', 'gateBias', 'up', 'upBias', 'down'] as const;

/** One of {@link designRoles}. */
export type DesignRole = (typeof designRoles)[number];

/** Consecutive columns of a design matrix, one role. */
export interface ColumnBlock {
  readonly role: DesignRole;
  /** 1 for biases, hiddenSize for all others. */
  readonly width: number;
}

/** The blocks of an expert's design matrix, in order. */
export function designBlocks(expert: {
  readonly hiddenSize: number;
  readonly roles: readonly DesignRole[];
}): readonly ColumnBlock[] {
  return designRoles
    .filter((role) => expert.roles.includes(role))
    .map((role) => ({ role, width: role.endsWith('Bias') ? 1 : expert.hiddenSize }));
}

/** Row-major `[rows, columns]`. */
export interface DenseMatrix {
  readonly kind: 'dense';
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

/** Values at some places, row by row; zero elsewhere. */
export interface SparseMatrix {
  readonly kind: 'sparse';
  readonly rows: number;
  readonly columns: number;
  readonly index: SparseIndex;
  /** One per place, in the order of the index. */
  readonly values: Float32Array;
}

/** `left · right`. Singular values are folded into one of them. */
export interface LowRankMatrix {
  readonly kind: 'lowRank';
  readonly rows: number;
  readonly columns: number;
  readonly rank: number;
  /** `[rows, rank]`: what all blocks of a row have in common. */
  readonly left: Float32Array;
  /** `[rank, columns]` */
  readonly right: Float32Array;
}

/** A matrix, stored small. */
export type CompressedMatrix = DenseMatrix | SparseMatrix | LowRankMatrix;

/** One stored expert, or its difference from the centre where the layer has one. */
export interface StoredExpert {
  /**
   * One matrix over the whole width, or one for each {@link ColumnBlock}. All have the same number of rows; without a
   * centre that may be fewer than the layer's intermediateSize (structured pruning, fusion of neurons).
   */
  readonly matrices: readonly CompressedMatrix[];
}

/** All experts of one layer. */
export interface CompressedLayer {
  /** Of the layer's block, such as `blocks.3` or `encoder.blocks.1`. */
  readonly name: string;
  /** Inner neurons of an original expert. */
  readonly intermediateSize: number;
  readonly hiddenSize: number;
  readonly blocks: readonly ColumnBlock[];
  /**
   * `[intermediateSize, width]`, width being the sum over {@link blocks}: an expert is the centre plus what is stored
   * for it.
   */
  readonly centre?: Float32Array;
  readonly experts: readonly StoredExpert[];
  /**
   * For each original expert, which stored one stands for it; −1 where it was dropped: it then adds nothing to the
   * tokens that are still sent to it.
   */
  readonly expertOf: readonly number[];
  /**
   * Biases of the experts' outputs, `[hiddenSize]` per stored expert, where the original has them. They belong to no
   * neuron and are kept as they are.
   */
  readonly outputBiases?: readonly Float32Array[];
}

/** Columns of a design matrix. */
export function designWidth(blocks: readonly ColumnBlock[]): number {
  return blocks.reduce((total, { width }) => total + width, 0);
}
