/**
 * What T5 and Switch Transformers have in common: keys of the configuration and names of the tensors.
 * @module
 */
import type { z } from 'zod';
import type { EncoderDecoderOptions, encoderDecoderSchema, ModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';
import { UnfitModelError } from './errors.js';
import { parseOptions } from './options.js';
import type { TensorNames } from './tensor-names.js';

/** Options before defaults. */
export type EncoderDecoderInput = z.input<typeof encoderDecoderSchema>;

/** More blocks than any model has: above, a damaged configuration would make lists that fill the memory. */
const MOST_LAYERS = 1 << 16;

/** Reads the keys that both families have. What a family has besides is added by it. */
export function readEncoderDecoder(config: ConfigReader): EncoderDecoderInput {
  const dropout = config.number('dropout_rate', 0.1);
  const numEncoderLayers = config.size('num_layers');
  const numDecoderLayers = config.size('num_decoder_layers', numEncoderLayers);
  const numLayers = Math.max(numEncoderLayers, numDecoderLayers);
  if (numLayers > MOST_LAYERS) config.refuse(`a stack of ${numLayers} layers is more than any model has`);
  // Later versions of transformers call every T5 tied, and keep what v1.1 meant by untied in a key of its own; a
  // separate output layer and unscaled states go together.
  const isTied = config.boolean('tie_word_embeddings', true) && config.boolean('scale_decoder_outputs', true);
  const contextLength = config.size('n_positions', 512);
  const padTokenId = config.count('pad_token_id') ?? 0;
  config.ignore('initializer_factor', 'is_decoder', 'add_cross_attention', 'tie_encoder_decoder');
  return {
    kind: 'encoderDecoder',
    vocabSize: config.size('vocab_size'),
    hiddenSize: config.size('d_model'),
    headSize: config.size('d_kv', 64),
    intermediateSize: config.size('d_ff'),
    numEncoderLayers,
    numDecoderLayers,
    numHeads: config.size('num_heads'),
    // Relative positions have no end; T5 was trained on this many tokens.
    contextLength,
    // A key of ours, for targets that may be longer or shorter than sources.
    targetLength: config.optionalSize('n_decoder_positions'),
    positions: 'relative',
    relative: {
      numBuckets: config.size('relative_attention_num_buckets', 32),
      maxDistance: config.size('relative_attention_max_distance', 128),
    },
    norm: 'rms',
    normEpsilon: config.number('layer_norm_epsilon', 1e-6),
    attentionScale: 1,
    tieEmbeddings: isTied,
    scaleLogits: isTied,
    dropout,
    finalDropout: true,
    attentionDropout: dropout,
    padTokenId,
    eosTokenId: config.count('eos_token_id') ?? 1,
    decoderStartTokenId: config.count('decoder_start_token_id') ?? padTokenId,
  };
}

/** Checks options that were read, and fills their defaults. */
export function finishEncoderDecoder(
  config: ConfigReader,
  modelType: string,
  input: EncoderDecoderInput,
): EncoderDecoderOptions {
  config.finish(modelType);
  return parseOptions(input, config.file) as EncoderDecoderOptions;
}

/** The keys that both families have. */
export function writeEncoderDecoder(options: EncoderDecoderOptions): JsonObject {
  const { hiddenSize, numHeads, headSize = hiddenSize / numHeads, relative } = options;
  const { contextLength, targetLength = contextLength } = options;
  const { padTokenId = 0, eosTokenId = 1, decoderStartTokenId = padTokenId } = options;
  return {
    vocab_size: options.vocabSize,
    d_model: hiddenSize,
    d_kv: headSize,
    d_ff: options.intermediateSize,
    num_layers: options.numEncoderLayers,
    num_decoder_layers: options.numDecoderLayers,
    num_heads: numHeads,
    n_positions: contextLength,
    ...(targetLength === contextLength ? {} : { n_decoder_positions: targetLength }),
    relative_attention_num_buckets: relative?.numBuckets ?? 32,
    relative_attention_max_distance: relative?.maxDistance ?? 128,
    dropout_rate: options.dropout,
    layer_norm_epsilon: options.normEpsilon ?? 1e-6,
    initializer_factor: 1,
    is_encoder_decoder: true,
    tie_word_embeddings: options.tieEmbeddings,
    pad_token_id: padTokenId,
    eos_token_id: eosTokenId,
    decoder_start_token_id: decoderStartTokenId,
  };
}

/**
 * Options of an encoder–decoder.
 * @throws UnfitModelError for another kind of model.
 */
export function encoderDecoderOnly(options: ModelOptions): EncoderDecoderOptions {
  if (options.kind !== 'encoderDecoder')
    throw new UnfitModelError(`it is an encoder–decoder, not a model of kind ${options.kind}`);
  return options;
}

/** T5's names. */
export function encoderDecoderNames(
  { tieEmbeddings }: EncoderDecoderOptions,
  feedForward: readonly (readonly [ours: string, theirs: string])[],
): Pick<TensorNames, 'rules' | 'aliases'> {
  const rule = (side: string, from: string, to: string): readonly [RegExp, string] => [
    new RegExp(String.raw`^${side}\.blocks\.(\d+)\.${from.replaceAll('.', String.raw`\.`)}\.`),
    `${side}.block.$1.${to}.`,
  ];
  const attention = (side: string, from: string, to: string): (readonly [RegExp, string])[] =>
    (['query', 'key', 'value', 'output'] as const).map((part) =>
      rule(side, `${from}.${part}`, `${to}.${part[0]}`),
    );
  const side = (name: 'encoder' | 'decoder'): (readonly [RegExp, string])[] => {
    const last = feedForwardLayer(name);
    return [
      [
        new RegExp(`^${name}\\.position\\.`),
        `${name}.block.0.layer.0.SelfAttention.relative_attention_bias.`,
      ],
      rule(name, 'selfAttentionNorm', 'layer.0.layer_norm'),
      ...attention(name, 'selfAttention', 'layer.0.SelfAttention'),
      rule(name, 'crossAttentionNorm', 'layer.1.layer_norm'),
      ...attention(name, 'crossAttention', 'layer.1.EncDecAttention'),
      rule(name, 'feedForwardNorm', `${last}.layer_norm`),
      ...feedForward.map(([ours, theirs]) => rule(name, `feedForward.${ours}`, `${last}.${theirs}`)),
      [new RegExp(`^${name}\\.norm\\.`), `${name}.final_layer_norm.`],
    ];
  };
  const shared = ['encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'];
  return {
    rules: [[/^embedding\./, 'shared.'], ...side('encoder'), ...side('decoder'), [/^head\./, 'lm_head.']],
    aliases: (tensor) =>
      tensor === 'shared.weight' ? [...shared, ...(tieEmbeddings ? ['lm_head.weight'] : [])] : [],
  };
}

/** Which part of a block its feed-forward layer is: decoders have the attention to the encoder before it. */
export function feedForwardLayer(side: string): string {
  return side === 'encoder' ? 'layer.1' : 'layer.2';
}

/** A bias of attention to the encoder that early versions of `transformers` saved and never used. */
export function isUnusedBias(tensor: string): boolean {
  return tensor === 'decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight';
}
