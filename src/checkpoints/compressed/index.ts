/**
 * Experts stored small: a shared centre, and dense, sparse or low-rank matrices.
 * @module
 */
export { compressedSize, originalSize, storedNumbers, type LayerSize } from './accounting.js';
export { designOf, designSize, weightsOf, type DesignShape, type ExpertWeights } from './design-matrix.js';
export {
  designBlocks,
  designRoles,
  designWidth,
  type ColumnBlock,
  type CompressedLayer,
  type CompressedMatrix,
  type DenseMatrix,
  type DesignRole,
  type LowRankMatrix,
  type SparseMatrix,
  type StoredExpert,
} from './layer.js';
export { addMatrix, sparseMatrix, type Window } from './matrix.js';
export { restoreExpert } from './restore.js';
export {
  bitmapBytes,
  compressedRowsBytes,
  countPlaces,
  eachPlace,
  sparseIndexBytes,
  sparseIndexOf,
  type Bitmap,
  type CompressedRows,
  type SparseIndex,
} from './sparse-index.js';
