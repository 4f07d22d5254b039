/**
 * Whole models: one file each.
 * @module
 */
export {
  EncoderDecoder,
  type EncoderDecoderInputs,
  type EncoderDecoderOutput,
  type SourceInputs,
} from './encoder-decoder.js';
export { encoderDecoderSchema, type EncoderDecoderOptions } from './encoder-decoder-options.js';
export type { ModelReport } from './layer-reports.js';
export {
  LanguageModel,
  languageModelSchema,
  totalAuxiliaryLoss,
  type LanguageModelInputs,
  type LanguageModelOptions,
  type LanguageModelOutput,
} from './language-model.js';
export { sizeOfModel, type ModelSize } from './size.js';
export { TransformerBlock } from './transformer-block.js';
