/**
 * Checkpoints of any layout, opened as models of ours.
 * @module
 */
export {
  openCheckpoint,
  readModelConfig,
  type Checkpoint,
  type ConfigChange,
  type ModelConfig,
} from './checkpoint.js';
export { expertLayers, type Expert, type ExpertLayer } from './expert-layers.js';
export { factorised } from './factorised.js';
export { ownModelType } from './own-architectures.js';
export type { ParameterSlice } from './parameter-reader.js';
export { readParameters } from './read-parameters.js';
export { upcycle, type UpcycleOptions } from './upcycle.js';
