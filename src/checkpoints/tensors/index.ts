/**
 * Tensors of a checkpoint in one file or in many, read by range and written as a stream.
 * @module
 */
export { readFloats, type ReadFloatsOptions } from './floats.js';
export { openTensors } from './open.js';
export { saveTensors, type SaveProgress, type SaveTensorsOptions } from './save.js';
export type { TensorSource } from './source.js';
