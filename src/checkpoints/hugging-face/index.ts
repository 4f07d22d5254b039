/**
 * Checkpoints of Hugging Face by their `model_type`. A new architecture is one file and one line here.
 * @module
 */
import type { Architecture } from './architecture.js';
import { llama } from './llama.js';
import { switchTransformers } from './switch-transformers.js';
import { t5 } from './t5.js';

export type { Architecture, ExpertLayout, TensorChoice, TensorMapping, TensorPart } from './architecture.js';
export { ConfigReader } from './config-reader.js';
export { ModelFolderError, UnfitModelError } from './errors.js';

/** All architectures that are read and written. */
export const architectures: readonly Architecture[] = [llama, t5, switchTransformers];
