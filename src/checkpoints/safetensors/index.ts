/**
 * Safetensors files: a strict reader by range and a streaming writer.
 * @module
 */
export { decodableDTypes, decodeFloats, type DecodableDType } from './decode.js';
export {
  bytesOf,
  isStoredDType,
  storedDTypes,
  type NamedTensor,
  type PlannedTensor,
  type StoredArray,
  type StoredDType,
  type TensorInfo,
} from './dtypes.js';
export { encodableDTypes, encodeFloats, roundFloats, type EncodableDType } from './encode.js';
export { quote, SafetensorsError, type SafetensorsErrorCode } from './errors.js';
export type { TensorEntry } from './header.js';
export { SafetensorsFile, type ReadOptions, type TensorExtent } from './reader.js';
export { saveSafetensors, writeSafetensors, type WriteOptions } from './writer.js';
