/**
 * Experts stored small: a shared centre, and dense, sparse or low-rank matrices.
 * @module
 */
export { compressedSize, originalSize, storedNumbers, type LayerSize } from './accounting.js';
export { designOf, designSize, weightsOf, type DesignShape, type ExpertWeights } from './design-matrix.js';
export { ByteCache } from './byte-cache.js';
export { CompressedFormatError } from './errors.js';
export {
  checkExpertTensors,
  EXPERT,
  gatherDesign,
  scatterDesign,
  sliceOf,
  type ExpertShape,
  type ExpertTensor,
} from './expert-tensors.js';
export {
  COMPRESSED_VERSION,
  compressedDTypes,
  parseCompression,
  type CompressedDType,
  type CompressionHeader,
  type LayerHeader,
} from './header.js';
export { layerLayout } from './layer-layout.js';
export { LayerReader } from './layer-reader.js';
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
export { COMPRESSED_PREFIX } from './names.js';
export { packLayer, type PackedLayer } from './pack.js';
export { restoreExpert } from './restore.js';
export { RestoringSource, type RestoreOptions } from './restoring-source.js';
export { StoredExperts, type LayerLayout } from './stored-experts.js';
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
