/**
 * `qwen2_moe`: Qwen1.5-MoE and Qwen2-57B-A14B (arXiv 2407.10671 §2.2.2). Queries, keys and values have biases; beside the
 * chosen experts every token visits a shared one, weighed by a sigmoid.
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
import { UnfitModelError } from './errors.js';
import { nameTensors, type TensorNames } from './tensor-names.js';

const layer = 'model.layers.$1.mlp';
const rules: TensorNames['rules'] = [
  mlpRouter,
  [/^blocks\.(\d+)\.feedForward\.sharedGate\./, `${layer}.shared_expert_gate.`],
  [/^blocks\.(\d+)\.feedForward\.shared\.(gate|up|down)\./, `${layer}.shared_expert.$2_proj.`],
];

/** Qwen2-MoE. */
export const qwen2Moe: Architecture = {
  modelType: 'qwen2_moe',
  className: 'Qwen2MoeForCausalLM',
  readConfig(config) {
    const decoder = readDecoder(config, { contextLength: 32_768, numKeyValueHeads: 16 });
    refuseQwenWindow(config, decoder);
    const placed = readSparseStep(config, decoder.numLayers);
    const sparse = {
      numExperts: config.size('num_experts', 60),
      topK: config.size('num_experts_per_tok', 4),
      intermediateSize: config.size('moe_intermediate_size', 1408),
      router: readSoftmaxRouter(config, 0.001),
      sharedIntermediateSize: config.size('shared_expert_intermediate_size', 5632),
      sharedGate: true,
    };
    return finishDecoder(config, 'qwen2_moe', {
      ...decoder,
      attentionBias: config.boolean('qkv_bias', true) ? 'inputs' : 'none',
      sparse: placed ? { ...placed, ...sparse } : null,
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const sparse = expertsOf(decoder);
    if (sparse.sharedIntermediateSize === null || !sparse.sharedGate)
      throw new UnfitModelError('it has a shared expert with a gate');
    return {
      ...writeDecoder(decoder),
      ...writeSparseStep(decoder),
      qkv_bias: attentionBiasOf(decoder) !== 'none',
      moe_intermediate_size: sparse.intermediateSize ?? decoder.intermediateSize,
      shared_expert_intermediate_size: sparse.sharedIntermediateSize,
      ...writeSoftmaxRouter(sparse),
      use_sliding_window: false,
    };
  },
  tensors: (options, choice) =>
    nameTensors(options, decoderNames(languageModelOnly(options), { rules, experts: mlpExperts }), choice),
  ignores: isRotaryTable,
};
