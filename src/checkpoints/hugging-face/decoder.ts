/**
 * What the decoder-only architectures of Hugging Face have in common: Llama's keys and names.
 * @module
 */
import type { z } from 'zod';
import type { languageModelSchema, LanguageModelOptions, ModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';
import { UnfitModelError } from './errors.js';
import { parseOptions } from './options.js';
import { readRotary, writeRotary } from './rotary.js';
import type { ExpertNames, TensorNames } from './tensor-names.js';

/** Options before defaults. */
export type DecoderInput = z.input<typeof languageModelSchema>;

/** `hidden_act` by our names; the feed-forward layers of these families are gated. */
const gatedActivations = {
  silu: 'swiglu',
  swish: 'swiglu',
  gelu: 'geglu',
  gelu_new: 'gegluTanh',
  gelu_pytorch_tanh: 'gegluTanh',
  relu: 'reglu',
} as const;

/** Defaults of a family, where they are not Llama's. */
export interface DecoderDefaults {
  readonly theta?: number;
  readonly normEpsilon?: number;
  readonly contextLength?: number;
  /** As many as queries have when absent. */
  readonly numKeyValueHeads?: number;
}

/** Reads the keys that all decoders have. What a family has besides is added by it. */
export function readDecoder(config: ConfigReader, defaults: DecoderDefaults = {}): DecoderInput {
  const contextLength = config.size('max_position_embeddings', defaults.contextLength ?? 2048);
  const attentionDropout = config.number('attention_dropout', 0);
  // Of the training of Llama with tensor parallelism: the same numbers, added up in another order.
  config.ignore('pretraining_tp');
  return {
    kind: 'languageModel',
    vocabSize: config.size('vocab_size'),
    hiddenSize: config.size('hidden_size'),
    numLayers: config.size('num_hidden_layers'),
    numHeads: config.size('num_attention_heads'),
    // A key that is absent has the family's own default; null is as many as queries have.
    numKeyValueHeads:
      config.optionalSize('num_key_value_heads') ??
      (config.has('num_key_value_heads') ? undefined : defaults.numKeyValueHeads),
    headSize: config.optionalSize('head_dim'),
    intermediateSize: config.size('intermediate_size'),
    activation: config.choice('hidden_act', gatedActivations, 'silu'),
    contextLength,
    positions: 'rotary',
    rotary: readRotary(config, defaults.theta ?? 10_000, contextLength),
    norm: 'rms',
    normEpsilon: config.number('rms_norm_eps', defaults.normEpsilon ?? 1e-6),
    tieEmbeddings: config.boolean('tie_word_embeddings', false),
    attentionDropout,
  };
}

/** Refuses a window of attention that hides tokens of a text that is short enough for the model. */
export function refuseSlidingWindow(
  config: ConfigReader,
  { contextLength }: DecoderInput,
  isUsed = true,
): void {
  const window = config.count('sliding_window');
  if (isUsed && window !== undefined && window < contextLength)
    config.refuse(
      `sliding_window ${window} hides tokens of a text of ${contextLength}, which is not supported`,
    );
}

/** The same for the Qwen families, which have a switch for it and name the kind of every layer. */
export function refuseQwenWindow(config: ConfigReader, decoder: DecoderInput): void {
  refuseSlidingWindow(config, decoder, config.boolean('use_sliding_window', false));
  config.ignore('max_window_layers');
  const kinds = config.value('layer_types') ?? [];
  if (!Array.isArray(kinds) || kinds.some((kind) => kind !== 'full_attention'))
    config.refuse('layer_types has others than full_attention, which is not supported');
}

/** Which projections of attention have biases. */
export function attentionBiasOf({ bias, attentionBias }: LanguageModelOptions): 'all' | 'inputs' | 'none' {
  return attentionBias ?? (bias ? 'all' : 'none');
}

/** The router of `mlp`, as all families but Mixtral name it. */
export const mlpRouter: TensorNames['rules'][number] = [
  /^blocks\.(\d+)\.feedForward\.router\.classifier\./,
  'model.layers.$1.mlp.gate.',
];

/** Checks options that were read, and fills their defaults. */
export function finishDecoder(
  config: ConfigReader,
  modelType: string,
  input: DecoderInput,
): LanguageModelOptions {
  config.finish(modelType);
  return parseOptions(input, config.file) as LanguageModelOptions;
}

/** The keys that all decoders have. */
export function writeDecoder(options: LanguageModelOptions): JsonObject {
  const { hiddenSize, numHeads, numKeyValueHeads = numHeads, headSize, activation, normEpsilon } = options;
  const act = Object.entries(gatedActivations).find(([, ours]) => ours === activation)?.[0];
  if (act === undefined) throw new UnfitModelError(`its feed-forward layers are gated, unlike ${activation}`);
  return {
    vocab_size: options.vocabSize,
    hidden_size: hiddenSize,
    intermediate_size: options.intermediateSize,
    num_hidden_layers: options.numLayers,
    num_attention_heads: numHeads,
    num_key_value_heads: numKeyValueHeads,
    head_dim: headSize ?? hiddenSize / numHeads,
    hidden_act: act,
    max_position_embeddings: options.contextLength,
    rms_norm_eps: normEpsilon ?? 1e-6,
    tie_word_embeddings: options.tieEmbeddings,
    attention_dropout: options.attentionDropout,
    ...writeRotary(options),
  };
}

/**
 * Options of a language model.
 * @throws UnfitModelError for another kind of model.
 */
export function languageModelOnly(options: ModelOptions): LanguageModelOptions {
  if (options.kind !== 'languageModel')
    throw new UnfitModelError(`it is a language model, not a model of kind ${options.kind}`);
  return options;
}

/** Llama's names, with those of a family's experts. */
export function decoderNames(
  { tieEmbeddings }: LanguageModelOptions,
  extra: Partial<Pick<TensorNames, 'rules' | 'experts'>> = {},
): TensorNames {
  const block = String.raw`^blocks\.(\d+)\.`;
  const layer = 'model.layers.$1.';
  const rule = (from: string, to: string): readonly [RegExp, string] => [
    new RegExp(`${block}${from.replaceAll('.', String.raw`\.`)}\\.`),
    `${layer}${to}.`,
  ];
  return {
    rules: [
      ...(extra.rules ?? []),
      [/^embedding\./, 'model.embed_tokens.'],
      rule('attentionNorm', 'input_layernorm'),
      rule('attention.query', 'self_attn.q_proj'),
      rule('attention.key', 'self_attn.k_proj'),
      rule('attention.value', 'self_attn.v_proj'),
      rule('attention.output', 'self_attn.o_proj'),
      rule('attention.queryNorm', 'self_attn.q_norm'),
      rule('attention.keyNorm', 'self_attn.k_norm'),
      rule('feedForwardNorm', 'post_attention_layernorm'),
      rule('feedForward.gate', 'mlp.gate_proj'),
      rule('feedForward.up', 'mlp.up_proj'),
      rule('feedForward.down', 'mlp.down_proj'),
      [/^norm\./, 'model.norm.'],
      [/^head\./, 'lm_head.'],
    ],
    ...(extra.experts ? { experts: extra.experts } : {}),
    aliases: (tensor) => (tieEmbeddings && tensor === 'model.embed_tokens.weight' ? ['lm_head.weight'] : []),
  };
}

/** The experts of `mlp.experts`, as all families but Mixtral name them. */
export const mlpExperts: ExpertNames = {
  pattern: /^blocks\.(\d+)\.feedForward\.experts\.(gate|up|down)$/,
  perExpert: ([layer], role, expert) => `model.layers.${layer}.mlp.experts.${expert}.${role}_proj.weight`,
  fused: ([layer], role) => `model.layers.${layer}.mlp.experts.${role === 'down' ? 'down' : 'gate_up'}_proj`,
};

/** Tables of angles that older versions of `transformers` saved; they follow from the configuration. */
export function isRotaryTable(tensor: string): boolean {
  return tensor.endsWith('.rotary_emb.inv_freq');
}
