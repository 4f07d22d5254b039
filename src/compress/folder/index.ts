/**
 * Compresses whole checkpoints.
 * @module
 */
export { chooseLayers } from './choose-layers.js';
export { compressFolder, weightBytes } from './compress-folder.js';
export type {
  CompressionJob,
  CompressionListener,
  FolderOutcome,
  LayerJob,
  LayerOutcome,
  Size,
} from './job.js';
export { layerJobs } from './layer-jobs.js';
export { readCompressionNumbers, type CompressionNumbers } from './numbers.js';
export { CompressionError, CompressionState } from './state.js';
export { verifyFolder, type Verified } from './verify.js';
