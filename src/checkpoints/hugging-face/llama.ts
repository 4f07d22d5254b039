/**
 * `llama`: the dense decoder of Llama, and of all that were trained with its code.
 * @module
 */
import type { Architecture } from './architecture.js';
import {
  attentionBiasOf,
  decoderNames,
  finishDecoder,
  isRotaryTable,
  languageModelOnly,
  readDecoder,
  writeDecoder,
} from './decoder.js';
import { nameTensors } from './tensor-names.js';

/** Llama. */
export const llama: Architecture = {
  modelType: 'llama',
  className: 'LlamaForCausalLM',
  readConfig(config) {
    const decoder = readDecoder(config);
    return finishDecoder(config, 'llama', {
      ...decoder,
      attentionBias: config.boolean('attention_bias', false) ? 'all' : 'none',
      feedForwardBias: config.boolean('mlp_bias', false),
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    return {
      ...writeDecoder(decoder),
      attention_bias: attentionBiasOf(decoder) === 'all',
      mlp_bias: decoder.feedForwardBias ?? decoder.bias,
    };
  },
  tensors: (options, choice) => nameTensors(options, decoderNames(languageModelOnly(options)), choice),
  ignores: isRotaryTable,
};
