/**
 * `mixtral`: Mixtral 8x7B and its kin (arXiv 2401.04088). The chosen gates add up to 1.
 * @module
 */
import type { Architecture, TensorChoice } from './architecture.js';
import {
  decoderNames,
  finishDecoder,
  isRotaryTable,
  languageModelOnly,
  mlpExperts,
  readDecoder,
  refuseSlidingWindow,
  writeDecoder,
} from './decoder.js';
import { expertsOf, softmaxRouter } from './decoder-experts.js';
import { nameTensors, type ExpertNames, type TensorNames } from './tensor-names.js';

const roles = { gate: 'w1', up: 'w3', down: 'w2' } as const;
const experts: ExpertNames = {
  ...mlpExperts,
  perExpert: ([layer], role, expert) =>
    `model.layers.${layer}.block_sparse_moe.experts.${expert}.${roles[role]}.weight`,
};

/** With fused experts the whole layer is called `mlp`. */
function routerRule({ layout }: TensorChoice): TensorNames['rules'][number] {
  const layer = layout === 'fused' ? 'mlp' : 'block_sparse_moe';
  return [/^blocks\.(\d+)\.feedForward\.router\.classifier\./, `model.layers.$1.${layer}.gate.`];
}

/** Mixtral. */
export const mixtral: Architecture = {
  modelType: 'mixtral',
  className: 'MixtralForCausalLM',
  readConfig(config) {
    const decoder = readDecoder(config, {
      theta: 1e6,
      normEpsilon: 1e-5,
      contextLength: 131_072,
      numKeyValueHeads: 8,
    });
    refuseSlidingWindow(config, decoder);
    return finishDecoder(config, 'mixtral', {
      ...decoder,
      sparse: {
        numExperts: config.size('num_local_experts', 8),
        topK: config.size('num_experts_per_tok', 2),
        router: {
          kind: 'softmax',
          normalizeGates: true,
          balanceCoefficient: config.number('router_aux_loss_coef', 0.001),
          jitter: config.number('router_jitter_noise', 0),
        },
      },
    });
  },
  writeConfig(options) {
    const decoder = languageModelOnly(options);
    const sparse = expertsOf(decoder);
    const { balanceCoefficient, jitter } = softmaxRouter(sparse);
    return {
      ...writeDecoder(decoder),
      intermediate_size: sparse.intermediateSize ?? decoder.intermediateSize,
      num_local_experts: sparse.numExperts,
      num_experts_per_tok: sparse.topK,
      router_aux_loss_coef: balanceCoefficient,
      router_jitter_noise: jitter,
      sliding_window: null,
    };
  },
  tensors(options, choice) {
    const decoder = languageModelOnly(options);
    return nameTensors(options, decoderNames(decoder, { rules: [routerRule(choice)], experts }), choice);
  },
  ignores: isRotaryTable,
};
