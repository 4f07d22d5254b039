/**
 * `switch_transformers`: T5 with a Switch layer in place of some feed-forward layers (Fedus et al., arXiv 2101.03961).
 *
 * Its layers choose one expert of `num_experts` by the largest probability and weigh it by that, in every sequence at
 * most `expert_capacity` tokens an expert, earlier tokens first; a token without a place adds nothing.
 * @module
 */
import { isSparseBlock, type ActivationName } from '../../moe/index.js';
import type { EncoderDecoderOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { Architecture } from './architecture.js';
import type { ConfigReader } from './config-reader.js';
import {
  encoderDecoderNames,
  encoderDecoderOnly,
  feedForwardLayer,
  finishEncoderDecoder,
  isUnusedBias,
  readEncoderDecoder,
  writeEncoderDecoder,
  type EncoderDecoderInput,
} from './encoder-decoder.js';
import { UnfitModelError } from './errors.js';
import { nameTensors, type ExpertNames } from './tensor-names.js';

/** `dense_act_fn` by our names; there is no gated form. */
const activations = {
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'geluTanh',
  gelu_pytorch_tanh: 'geluTanh',
  silu: 'silu',
  swish: 'silu',
} as const satisfies Record<string, ActivationName>;

/** Switch Transformers. */
export const switchTransformers: Architecture = {
  modelType: 'switch_transformers',
  className: 'SwitchTransformersForConditionalGeneration',
  readConfig(config) {
    const input = readEncoderDecoder(config);
    const activation = config.choice('dense_act_fn', activations, 'relu');
    config.only('feed_forward_proj', config.value('dense_act_fn') ?? 'relu');
    config.only('is_gated_act', false);
    return finishEncoderDecoder(config, 'switch_transformers', {
      ...input,
      activation,
      sparse: readSparse(config, input),
    });
  },
  writeConfig(options) {
    const pair = encoderDecoderOnly(options);
    const found = Object.entries(activations).find(([, ours]) => ours === pair.activation)?.[0];
    if (found === undefined)
      throw new UnfitModelError(
        `its feed-forward layers are not gated: there is no activation ${pair.activation}`,
      );
    return {
      ...writeEncoderDecoder(pair),
      dense_act_fn: found,
      feed_forward_proj: found,
      is_gated_act: false,
      ...writeSparse(pair),
    };
  },
  tensors(options, choice) {
    const pair = encoderDecoderOnly(options);
    const names = encoderDecoderNames(pair, [
      ['up', 'mlp.wi'],
      ['down', 'mlp.wo'],
      ['router', 'mlp.router'],
    ]);
    const mapping = nameTensors(options, { ...names, experts }, choice);
    if (pair.tieEmbeddings || choice.present.size > 0) return mapping;
    // With an output layer of its own, transformers takes the table of each stack from a tensor of its own as well.
    return mapping.flatMap(({ aliases = [], ...entry }) => [
      entry,
      ...aliases.map((tensor) => ({ ...entry, tensor })),
    ]);
  },
  ignores: isUnusedBias,
};

/** Names of the experts: each by itself, no other layout exists. */
const experts: ExpertNames = {
  pattern: /^(encoder|decoder)\.blocks\.(\d+)\.feedForward\.experts\.(up|down)$/,
  perExpert: ([side, layer], role, expert) =>
    `${side}.block.${layer}.${feedForwardLayer(side)}.mlp.experts.expert_${expert}.${role === 'up' ? 'wi' : 'wo'}.weight`,
};

/**
 * Blocks of a stack that are sparse: those that leave 1 when divided by the step, all for step 1, none for step 0. As
 * `num_sparse_*_layers` gives the step by division, there may be more of them than it says; with 0, block 1 is one.
 */
function sparseBlocks(step: number, numLayers: number): number[] {
  return Array.from({ length: numLayers }, (_, index) => index).filter(
    (index) => step > 0 && (step === 1 || index % step === 1),
  );
}

/** The last block of every n, as a recipe places sparse layers. */
function everyNth(n: number, numLayers: number): number[] {
  return Array.from({ length: numLayers }, (_, index) => index).filter((index) =>
    isSparseBlock({ every: n }, index),
  );
}

function readSparse(config: ConfigReader, input: EncoderDecoderInput): EncoderDecoderInput['sparse'] {
  const { numEncoderLayers, numDecoderLayers, contextLength, dropout = 0 } = input;
  const longest = Math.max(contextLength, input.targetLength ?? contextLength);
  const stack = (side: 'encoder' | 'decoder', numLayers: number) => {
    const count = config.count(`num_sparse_${side}_layers`) ?? 3;
    const computed = count > 0 ? Math.floor(numLayers / count) : numLayers;
    const step = config.count(`${side}_sparse_step`) ?? computed;
    return { numLayers, blocks: sparseBlocks(step, numLayers) };
  };
  const encoder = stack('encoder', numEncoderLayers);
  const decoder = stack('decoder', numDecoderLayers);
  const numExperts = config.size('num_experts', 8);
  const capacity = config.size('expert_capacity', 64);
  const router = {
    kind: 'softmax' as const,
    bias: config.boolean('router_bias', false),
    jitter: config.number('router_jitter_noise', 0.01),
    balanceCoefficient: config.number('router_aux_loss_coef', 0.001),
    zLossCoefficient: config.number('router_z_loss_coef', 0.001),
    group: 'sequence' as const,
  };
  config.only('num_selected_experts', 1);
  config.only('router_dtype', 'float32');
  config.only('batch_prioritized_routing', false);
  // Neither is used by the released code.
  config.ignore('router_ignore_padding_tokens', 'router_type', 'add_router_probs');
  const layers = [...encoder.blocks, ...decoder.blocks.map((block) => numEncoderLayers + block)];
  if (layers.length === 0) return null;
  const every = [1, 2].find((n) =>
    [encoder, decoder].every(({ numLayers, blocks }) => blocks.join() === everyNth(n, numLayers).join()),
  );
  return {
    kind: 'experts',
    ...(every === undefined ? { layers } : { every }),
    numExperts,
    router,
    // With room for all tokens of the longest sequence nobody is dropped.
    dispatch: capacity >= longest ? { kind: 'dropless' } : { kind: 'capacity', capacity, group: 'sequence' },
    experts: { kind: 'feedForward', expertDropout: dropout },
  };
}

function writeSparse(options: EncoderDecoderOptions): JsonObject {
  const { sparse, numEncoderLayers, numDecoderLayers, contextLength, targetLength = contextLength } = options;
  const stack = (side: 'encoder' | 'decoder', numLayers: number, firstLayer: number): JsonObject => {
    const blocks = Array.from({ length: numLayers }, (_, index) => index).filter(
      (index) => sparse !== null && isSparseBlock(sparse, index, firstLayer),
    );
    const steps = Array.from({ length: numLayers + 2 }, (_, step) => step);
    const step = steps.find((each) => sparseBlocks(each, numLayers).join() === blocks.join());
    if (step === undefined)
      throw new UnfitModelError(
        `its sparse ${side} blocks are 1, 1 + n, 1 + 2n … or all, not ${blocks.join(', ')}`,
      );
    return { [`num_sparse_${side}_layers`]: blocks.length, [`${side}_sparse_step`]: step };
  };
  const steps = {
    ...stack('encoder', numEncoderLayers, 0),
    ...stack('decoder', numDecoderLayers, numEncoderLayers),
  };
  if (!sparse) return steps;
  if (sparse.kind !== 'experts') throw new UnfitModelError(`it has no layers of kind ${sparse.kind}`);
  const { router, dispatch } = sparse;
  if (router.kind !== 'softmax') throw new UnfitModelError(`it has no router of kind ${router.kind}`);
  if (dispatch.kind === 'capacity' && (dispatch.capacity === undefined || dispatch.group !== 'sequence'))
    throw new UnfitModelError(
      'its experts have a fixed number of places per sequence: use dispatch dropless, or capacity with a capacity and group sequence',
    );
  return {
    ...steps,
    num_experts: sparse.numExperts,
    num_selected_experts: sparse.topK,
    expert_capacity:
      dispatch.kind === 'capacity' ? dispatch.capacity! : Math.max(contextLength, targetLength),
    router_bias: router.bias,
    router_dtype: 'float32',
    router_jitter_noise: router.jitter,
    router_aux_loss_coef: router.balanceCoefficient,
    router_z_loss_coef: router.zLossCoefficient,
    router_ignore_padding_tokens: false,
  };
}
