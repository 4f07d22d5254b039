/**
 * `t5`: the dense encoder–decoder, with ReLU (T5) or gated (T5 v1.1, Flan-T5, mT5's twin) feed-forward layers.
 * @module
 */
import type { ActivationName } from '../../moe/index.js';
import type { Architecture } from './architecture.js';
import {
  encoderDecoderNames,
  encoderDecoderOnly,
  finishEncoderDecoder,
  isUnusedBias,
  readEncoderDecoder,
  writeEncoderDecoder,
} from './encoder-decoder.js';
import { UnfitModelError } from './errors.js';
import { nameTensors } from './tensor-names.js';

/** `feed_forward_proj` by our names. `gated-gelu` is the tanh form, as the checkpoints of v1.1 were trained. */
const activations = {
  relu: 'relu',
  gelu: 'gelu',
  gelu_new: 'geluTanh',
  silu: 'silu',
  'gated-relu': 'reglu',
  'gated-gelu': 'gegluTanh',
  'gated-gelu_new': 'gegluTanh',
  'gated-silu': 'swiglu',
} as const satisfies Record<string, ActivationName>;

/** T5. */
export const t5: Architecture = {
  modelType: 't5',
  className: 'T5ForConditionalGeneration',
  readConfig(config) {
    const input = readEncoderDecoder(config);
    const activation = config.choice('feed_forward_proj', activations, 'relu');
    // Both follow from feed_forward_proj; the other is for classification.
    config.ignore('dense_act_fn', 'is_gated_act', 'classifier_dropout');
    return finishEncoderDecoder(config, 't5', { ...input, activation });
  },
  writeConfig(options) {
    const pair = encoderDecoderOnly(options);
    const found = Object.entries(activations).find(([, ours]) => ours === pair.activation)?.[0];
    if (found === undefined) throw new UnfitModelError(`T5 has no activation ${pair.activation}`);
    const isGated = found.startsWith('gated-');
    return {
      ...writeEncoderDecoder(pair),
      feed_forward_proj: found,
      dense_act_fn: found === 'gated-gelu' ? 'gelu_new' : found.replace('gated-', ''),
      is_gated_act: isGated,
    };
  },
  tensors(options, choice) {
    const pair = encoderDecoderOnly(options);
    const isGated = Object.entries(activations).some(
      ([theirs, ours]) => ours === pair.activation && theirs.startsWith('gated-'),
    );
    const feedForward = isGated
      ? ([
          ['gate', 'DenseReluDense.wi_0'],
          ['up', 'DenseReluDense.wi_1'],
        ] as const)
      : ([['up', 'DenseReluDense.wi']] as const);
    const names = encoderDecoderNames(pair, [...feedForward, ['down', 'DenseReluDense.wo']]);
    return nameTensors(options, names, choice);
  },
  ignores: isUnusedBias,
};
