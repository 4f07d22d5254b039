/**
 * Whole models: one file each.
 * @module
 */
export { Classifier, type ClassifierOutput } from './classifier.js';
export { classifierSchema, type ClassifierOptions } from './classifier-options.js';
export {
  cacheInputs,
  cacheOutputs,
  cacheShapes,
  type CacheInput,
  type DecodingCache,
} from './decoding-cache.js';
export {
  EncoderDecoder,
  type DecodeInputs,
  type DecodeOutput,
  type EncoderDecoderInputs,
  type EncoderDecoderOutput,
  type SourceInputs,
} from './encoder-decoder.js';
export { encoderDecoderSchema, type EncoderDecoderOptions } from './encoder-decoder-options.js';
export type { ModelReport } from './layer-reports.js';
export {
  LanguageModel,
  totalAuxiliaryLoss,
  type LanguageModelInputs,
  type LanguageModelOutput,
} from './language-model.js';
export { languageModelSchema, type LanguageModelOptions } from './language-model-options.js';
export {
  memoryInputs,
  memoryLengths,
  memoryOutputs,
  memoryShapes,
  type MemoryLengths,
  type SegmentMemory,
} from './segment-memory.js';
export { createModel, modelSchema, type Model, type ModelOptions } from './model.js';
export { sizeOfModel, type ModelSize } from './size.js';
export { TransformerBlock } from './transformer-block.js';
