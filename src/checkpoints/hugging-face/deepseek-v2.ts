/**
 * `deepseek_v2`: DeepSeek-V2 (arXiv 2405.04434). Gates are the raw probabilities, times a factor.
 * @module
 */
import type { Architecture } from './architecture.js';
import { deepseekRules, readDeepseek, readGroups, writeDeepseek } from './deepseek.js';
import { decoderNames, finishDecoder, isRotaryTable, languageModelOnly, mlpExperts } from './decoder.js';
import { expertsOf, softmaxRouter } from './decoder-experts.js';
import { nameTensors } from './tensor-names.js';

/** DeepSeek-V2. */
export const deepseekV2: Architecture = {
  modelType: 'deepseek_v2',
  className: 'DeepseekV2ForCausalLM',
  readConfig(config) {
    const { decoder, sparse, scale } = readDeepseek(config, {
      numExperts: 64,
      numSharedExperts: 2,
      intermediateSize: 1407,
      scale: 1,
      firstSparse: 0,
      contextLength: 2048,
    });
    config.only('norm_topk_prob', false);
    config.only('scoring_func', 'softmax');
    config.only('mlp_bias', false);
    const isLimited = config.choice('topk_method', { greedy: false, group_limited_greedy: true }, 'greedy');
    const [count, chosen] = [config.optionalSize('n_group'), config.optionalSize('topk_group')];
    const groups = isLimited ? readGroups(config, count, chosen) : undefined;
    return finishDecoder(config, 'deepseek_v2', {
      ...decoder,
      rotary: { ...decoder.rotary, interleaved: true },
      sparse: sparse ? { ...sparse, router: { kind: 'softmax', scale, groups } } : null,
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const { scale, groups } = softmaxRouter(expertsOf(decoder));
    return {
      ...writeDeepseek(decoder),
      routed_scaling_factor: scale ?? 1,
      norm_topk_prob: false,
      topk_method: groups ? 'group_limited_greedy' : 'greedy',
      n_group: groups?.count ?? null,
      topk_group: groups?.chosen ?? null,
    };
  },
  tensors(options, choice) {
    const decoder = languageModelOnly(options);
    const extra = { rules: deepseekRules(decoder), experts: mlpExperts };
    return nameTensors(options, decoderNames(decoder, extra), choice);
  },
  ignores: isRotaryTable,
};
