/**
 * `deepseek_v3`: DeepSeek-V3 and R1 (arXiv 2412.19437). Gates are sigmoids; a bias per expert enters the choice alone.
 * @module
 */
import type { Architecture } from './architecture.js';
import { deepseekRules, readDeepseek, readGroups, writeDeepseek } from './deepseek.js';
import { decoderNames, finishDecoder, isRotaryTable, languageModelOnly, mlpExperts } from './decoder.js';
import { expertsOf } from './decoder-experts.js';
import { UnfitModelError } from './errors.js';
import { nameTensors } from './tensor-names.js';

/** DeepSeek-V3. */
export const deepseekV3: Architecture = {
  modelType: 'deepseek_v3',
  className: 'DeepseekV3ForCausalLM',
  readConfig(config) {
    const { decoder, sparse, scale } = readDeepseek(config, {
      numExperts: 256,
      numSharedExperts: 1,
      intermediateSize: 2048,
      scale: 2.5,
      firstSparse: 3,
      contextLength: 4096,
    });
    config.only('scoring_func', 'sigmoid');
    config.only('topk_method', 'noaux_tc');
    // Modules that predict further tokens ahead lie behind the last layer; the model itself does not use them.
    config.ignore('num_nextn_predict_layers', 'num_mtp_layers');
    const interleaved = config.boolean('rope_interleave', true);
    const normalizeGates = config.boolean('norm_topk_prob', true);
    const groups = readGroups(config, config.size('n_group', 8), config.size('topk_group', 4));
    return finishDecoder(config, 'deepseek_v3', {
      ...decoder,
      rotary: { ...decoder.rotary, interleaved },
      sparse: sparse
        ? { ...sparse, router: { kind: 'biasBalanced', score: 'sigmoid', normalizeGates, scale, groups } }
        : null,
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const { router } = expertsOf(decoder);
    if (router.kind !== 'biasBalanced' || router.score !== 'sigmoid')
      throw new UnfitModelError(`its router is biasBalanced with sigmoid scores, not ${router.kind}`);
    return {
      ...writeDeepseek(decoder),
      routed_scaling_factor: router.scale,
      norm_topk_prob: router.normalizeGates ?? true,
      n_group: router.groups?.count ?? 1,
      topk_group: router.groups?.chosen ?? 1,
      rope_interleave: decoder.rotary?.interleaved ?? false,
      num_nextn_predict_layers: 0,
    };
  },
  tensors(options, choice) {
    const decoder = languageModelOnly(options);
    const extra = { rules: deepseekRules(decoder), experts: mlpExperts };
    return nameTensors(options, decoderNames(decoder, extra), choice);
  },
  ignores(tensor, options, present) {
    const { numLayers } = languageModelOnly(options);
    const [layer, index = ''] = /^model\.layers\.(\d+)\./.exec(tensor) ?? [];
    const isAhead =
      layer !== undefined && Number(index) >= numLayers && present.has(`${layer}eh_proj.weight`);
    return isAhead || isRotaryTable(tensor);
  },
};
