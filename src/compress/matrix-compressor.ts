/**
 * Making one matrix small: pruning and factorising, of a whole expert or of its difference from a centre.
 * @module
 */
import type { ColumnBlock, CompressedMatrix } from '../checkpoints/index.js';

/** Whether a matrix is cut as one, or each of its column blocks with a budget of its own. */
export const scopes = ['concat', 'sep'] as const;

/** One of {@link scopes}. */
export type Scope = (typeof scopes)[number];

/** A row-major matrix to be made smaller. */
export interface DesignMatrix {
  readonly rows: number;
  readonly blocks: readonly ColumnBlock[];
  /** `[rows, sum of the blocks' widths]` */
  readonly values: Float32Array;
}

/** A matrix stored small. */
export interface SmallMatrix {
  /** One over the whole width, or one for each block. */
  readonly matrices: readonly CompressedMatrix[];
  /** ‖M − M̂‖² */
  readonly error: number;
  /**
   * Only of factorisations: an upper bound, never below 0, of how much larger √error is than that of the best factors of
   * the same rank, as a part of it.
   */
  readonly truncationExcess?: number;
}

/** One way to make a matrix smaller. */
export interface MatrixCompressor {
  /**
   * @param ratio share of the matrix's elements that may be stored, in (0, 1]; 1 stores it without loss.
   * @param seed of everything random.
   * @throws RangeError for elements that are not finite, or a ratio too small to store anything, naming the least.
   */
  compress(matrix: DesignMatrix, ratio: number, seed: number): Promise<SmallMatrix>;
  /** Frees what the compressor holds. */
  release(): Promise<void>;
}
