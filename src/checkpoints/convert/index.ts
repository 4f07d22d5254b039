/**
 * Checkpoints from one layout into another.
 * @module
 */
export {
  exportDense,
  exportHuggingFace,
  importCheckpoint,
  type Conversion,
  type ConversionOptions,
  type HuggingFaceOptions,
  type ImportOptions,
} from './convert.js';
export { floatDTypes, type FloatDTypeName } from './plan.js';
