/**
 * Checkpoints of Hugging Face by their `model_type`. A new architecture is one file and one line here.
 * @module
 */
import type { Architecture } from './architecture.js';
import { deepseekV2 } from './deepseek-v2.js';
import { deepseekV3 } from './deepseek-v3.js';
import { llama } from './llama.js';
import { mixtral } from './mixtral.js';
import { olmoe } from './olmoe.js';
import { qwen2Moe } from './qwen2-moe.js';
import { qwen3Moe } from './qwen3-moe.js';
import { switchTransformers } from './switch-transformers.js';
import { t5 } from './t5.js';

export type { Architecture, ExpertLayout, TensorChoice, TensorMapping, TensorPart } from './architecture.js';
export { ConfigReader } from './config-reader.js';
export { ModelFolderError, UnfitModelError } from './errors.js';
export { readStopTokens } from './generation-config.js';

/** All architectures that are read and written. */
export const architectures: readonly Architecture[] = [
  llama,
  mixtral,
  olmoe,
  qwen2Moe,
  qwen3Moe,
  deepseekV2,
  deepseekV3,
  t5,
  switchTransformers,
];
