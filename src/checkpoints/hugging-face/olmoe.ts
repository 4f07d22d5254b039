/**
 * `olmoe`: OLMoE (arXiv 2409.02060). Queries and keys are normalised over all heads together.
 * @module
 */
import type { Architecture } from './architecture.js';
import {
  attentionBiasOf,
  decoderNames,
  finishDecoder,
  isRotaryTable,
  languageModelOnly,
  mlpExperts,
  mlpRouter,
  readDecoder,
  writeDecoder,
} from './decoder.js';
import { expertsOf, readSoftmaxRouter, writeSoftmaxRouter } from './decoder-experts.js';
import { UnfitModelError } from './errors.js';
import { nameTensors } from './tensor-names.js';

/** OLMoE. */
export const olmoe: Architecture = {
  modelType: 'olmoe',
  className: 'OlmoeForCausalLM',
  readConfig(config) {
    const decoder = readDecoder(config, { normEpsilon: 1e-5, contextLength: 4096 });
    return finishDecoder(config, 'olmoe', {
      ...decoder,
      attentionBias: config.boolean('attention_bias', false) ? 'all' : 'none',
      queryKeyNorm: 'all',
      clipQueryKeyValue: config.optionalNumber('clip_qkv'),
      sparse: {
        numExperts: config.size('num_experts', 64),
        topK: config.size('num_experts_per_tok', 8),
        router: readSoftmaxRouter(config, 0.01),
      },
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const sparse = expertsOf(decoder);
    const { hiddenSize, numHeads, headSize = hiddenSize / numHeads } = decoder;
    if (headSize !== hiddenSize / numHeads)
      throw new UnfitModelError(`its heads have ${hiddenSize / numHeads} features each, not ${headSize}`);
    return {
      ...writeDecoder(decoder),
      intermediate_size: sparse.intermediateSize ?? decoder.intermediateSize,
      attention_bias: attentionBiasOf(decoder) === 'all',
      clip_qkv: decoder.clipQueryKeyValue ?? null,
      ...writeSoftmaxRouter(sparse),
    };
  },
  tensors(options, choice) {
    const decoder = languageModelOnly(options);
    return nameTensors(options, decoderNames(decoder, { rules: [mlpRouter], experts: mlpExperts }), choice);
  },
  ignores: isRotaryTable,
};
