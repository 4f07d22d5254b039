/**
 * Whole models: one file each.
 * @module
 */
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
