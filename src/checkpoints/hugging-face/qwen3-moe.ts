/**
 * `qwen3_moe`: Qwen3-30B-A3B and Qwen3-235B-A22B (arXiv 2505.09388 §2). Queries and keys are normalised head by head;
 * there is no shared expert.
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
  refuseQwenWindow,
  writeDecoder,
} from './decoder.js';
import {
  expertsOf,
  readSoftmaxRouter,
  readSparseStep,
  writeSoftmaxRouter,
  writeSparseStep,
} from './decoder-experts.js';
import { nameTensors } from './tensor-names.js';

/** Qwen3-MoE. */
export const qwen3Moe: Architecture = {
  modelType: 'qwen3_moe',
  className: 'Qwen3MoeForCausalLM',
  readConfig(config) {
    const decoder = readDecoder(config, { contextLength: 32_768, numKeyValueHeads: 4 });
    refuseQwenWindow(config, decoder);
    const placed = readSparseStep(config, decoder.numLayers);
    const sparse = {
      numExperts: config.size('num_experts', config.optionalSize('num_local_experts') ?? 128),
      topK: config.size('num_experts_per_tok', 8),
      intermediateSize: config.size('moe_intermediate_size', 768),
      router: readSoftmaxRouter(config, 0.001),
    };
    return finishDecoder(config, 'qwen3_moe', {
      ...decoder,
      attentionBias: config.boolean('attention_bias', false) ? 'all' : 'none',
      queryKeyNorm: 'head',
      sparse: placed ? { ...placed, ...sparse } : null,
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const sparse = expertsOf(decoder);
    return {
      ...writeDecoder(decoder),
      ...writeSparseStep(decoder),
      attention_bias: attentionBiasOf(decoder) === 'all',
      moe_intermediate_size: sparse.intermediateSize ?? decoder.intermediateSize,
      ...writeSoftmaxRouter(sparse),
      use_sliding_window: false,
    };
  },
  tensors(options, choice) {
    const decoder = languageModelOnly(options);
    return nameTensors(options, decoderNames(decoder, { rules: [mlpRouter], experts: mlpExperts }), choice);
  },
  ignores: isRotaryTable,
};
