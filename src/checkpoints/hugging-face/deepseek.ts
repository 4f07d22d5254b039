/**
 * What DeepSeek-V2 and V3 have in common: latent attention, the first layers dense, shared experts, choices limited to
 * groups of experts.
 * @module
 */
import type { LanguageModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';
import { attentionBiasOf, mlpRouter, readDecoder, writeDecoder, type DecoderInput } from './decoder.js';
import { expertsOf, placement, sparseLayers, type ExpertInput } from './decoder-experts.js';
import { UnfitModelError } from './errors.js';
import type { TensorNames } from './tensor-names.js';

const attention = 'model.layers.$1.self_attn';

/** Names of tensors; what comes out of the hidden state alone is called otherwise where queries have no short vector. */
export function deepseekRules({ latentAttention }: LanguageModelOptions): TensorNames['rules'] {
  const query = latentAttention?.queryRank === null ? 'q_proj' : 'q_b_proj';
  return [
    mlpRouter,
    [/^blocks\.(\d+)\.feedForward\.router\.loadBias$/, 'model.layers.$1.mlp.gate.e_score_correction_bias'],
    [/^blocks\.(\d+)\.feedForward\.shared\.(gate|up|down)\./, 'model.layers.$1.mlp.shared_experts.$2_proj.'],
    [/^blocks\.(\d+)\.attention\.query\./, `${attention}.${query}.`],
    [/^blocks\.(\d+)\.attention\.queryDown\./, `${attention}.q_a_proj.`],
    [/^blocks\.(\d+)\.attention\.queryNorm\./, `${attention}.q_a_layernorm.`],
    [/^blocks\.(\d+)\.attention\.keyValueDown\./, `${attention}.kv_a_proj_with_mqa.`],
    [/^blocks\.(\d+)\.attention\.keyValueNorm\./, `${attention}.kv_a_layernorm.`],
    [/^blocks\.(\d+)\.attention\.keyValueUp\./, `${attention}.kv_b_proj.`],
  ];
}

/** Sizes that a family takes for granted. */
export interface DeepseekDefaults {
  readonly numExperts: number;
  readonly numSharedExperts: number;
  readonly intermediateSize: number;
  readonly scale: number;
  readonly firstSparse: number;
  readonly contextLength: number;
}

/** What is read from the keys of both. */
export interface DeepseekConfig {
  readonly decoder: DecoderInput;
  /** Undefined where no layer is sparse. */
  readonly sparse: Omit<ExpertInput, 'router'> | undefined;
  readonly scale: number;
}

/** Reads the keys of both. */
export function readDeepseek(config: ConfigReader, defaults: DeepseekDefaults): DeepseekConfig {
  const { headSize: _, numKeyValueHeads, ...decoder } = readDecoder(config, defaults);
  if (numKeyValueHeads !== undefined && numKeyValueHeads !== decoder.numHeads)
    config.refuse(
      `num_key_value_heads ${numKeyValueHeads} differs from num_attention_heads ${decoder.numHeads}, ` +
        'which latent attention does not know',
    );
  // The size of heads follows from those of their parts, and nobody reads it.
  config.ignore('head_dim', 'qk_head_dim', 'ep_size', 'aux_loss_alpha', 'seq_aux');
  config.only('moe_layer_freq', 1);
  const queryRank = config.optionalSize('q_lora_rank') ?? (config.has('q_lora_rank') ? null : 1536);
  const firstSparse = config.count('first_k_dense_replace') ?? defaults.firstSparse;
  const placed = placement(decoder.numLayers, (layer) => layer >= firstSparse);
  const intermediateSize = config.size('moe_intermediate_size', defaults.intermediateSize);
  const numExperts = config.size('n_routed_experts', defaults.numExperts);
  const shared = config.size('n_shared_experts', defaults.numSharedExperts);
  const topK = config.size('num_experts_per_tok');
  return {
    decoder: {
      ...decoder,
      attentionBias: config.boolean('attention_bias', false) ? 'all' : 'none',
      latentAttention: {
        queryRank,
        keyValueRank: config.size('kv_lora_rank', 512),
        contentHeadSize: config.size('qk_nope_head_dim', 128),
        rotaryHeadSize: config.size('qk_rope_head_dim', 64),
        valueHeadSize: config.size('v_head_dim', 128),
      },
    },
    sparse: placed && {
      ...placed,
      numExperts,
      topK,
      intermediateSize,
      sharedIntermediateSize: shared * intermediateSize,
    },
    scale: config.number('routed_scaling_factor', defaults.scale),
  };
}

/** `n_group` and `topk_group`; undefined where there are none, or one that limits nothing. */
export function readGroups(
  config: ConfigReader,
  count: number | undefined,
  chosen: number | undefined,
): { readonly count: number; readonly chosen: number } | undefined {
  if (count === undefined || count === 1) return undefined;
  if (chosen === undefined) return config.refuse(`n_group is ${count}, but topk_group is missing`);
  return { count, chosen };
}

/** Writes the keys of both. */
export function writeDeepseek(options: LanguageModelOptions): JsonObject {
  const { latentAttention: latent } = options;
  const sparse = expertsOf(options);
  if (!latent) throw new UnfitModelError('its attention is latent');
  const { sharedIntermediateSize } = sparse;
  const intermediateSize = sparse.intermediateSize ?? options.intermediateSize;
  if (sharedIntermediateSize === null || sharedIntermediateSize % intermediateSize !== 0)
    throw new UnfitModelError(
      `its shared experts are as wide as ${intermediateSize} each, not ${sharedIntermediateSize ?? 0} together`,
    );
  const [firstSparse] = sparseLayers(options);
  const { head_dim: _, ...decoder } = writeDecoder({ ...options, headSize: latent.rotaryHeadSize });
  return {
    ...decoder,
    attention_bias: attentionBiasOf(options) === 'all',
    q_lora_rank: latent.queryRank,
    kv_lora_rank: latent.keyValueRank,
    qk_nope_head_dim: latent.contentHeadSize,
    qk_rope_head_dim: latent.rotaryHeadSize,
    v_head_dim: latent.valueHeadSize,
    first_k_dense_replace: firstSparse,
    n_routed_experts: sparse.numExperts,
    num_experts_per_tok: sparse.topK,
    moe_intermediate_size: intermediateSize,
    n_shared_experts: sharedIntermediateSize / intermediateSize,
  };
}
