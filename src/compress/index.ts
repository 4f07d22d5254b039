/**
 * Making the experts of a trained model smaller: ResMoE and what it is compared with.
 * @module
 */
export { layerFraction, perExpertRatio, type Budget } from './budget.js';
export {
  chooseLayers,
  CompressionError,
  CompressionState,
  compressFolder,
  layerJobs,
  readCompressionNumbers,
  weightBytes,
  type CompressionNumbers,
  verifyFolder,
  type CompressionJob,
  type CompressionListener,
  type FolderOutcome,
  type LayerJob,
  type LayerOutcome,
  type Size,
  type Verified,
} from './folder/index.js';
export { calibrate, type CalibrateOptions } from './calibrate.js';
export type { LayerCalibration } from './calibration.js';
export type { Alignment, CentreFinder } from './centre.js';
export { centreKinds, centreSchema } from './centres/index.js';
export { matrixCompressorNames, matrixCompressors, type MatrixCompressorName } from './matrices/index.js';
export {
  scopes,
  type DesignMatrix,
  type MatrixCompressor,
  type Scope,
  type SmallMatrix,
} from './matrix-compressor.js';
export type {
  CompressionContext,
  CompressionMethod,
  LayerCompression,
  LayerExperts,
  LayerReport,
  MethodStep,
} from './method.js';
export { createMethod, methodKinds, methodSchema, type MethodOptions } from './methods/index.js';
export { redundancyOf, type Redundancy } from './redundancy.js';
