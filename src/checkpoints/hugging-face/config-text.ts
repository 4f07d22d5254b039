/**
 * Configurations as Python reads them.
 * @module
 */
import { encodeJson, type JsonObject } from '../json.js';

/** Keys whose numbers `transformers` takes as floats only: to Python 1 is an integer and 1.0 is none. */
const floats = [
  ...['attention_dropout', 'dropout_rate', 'classifier_dropout', 'router_jitter_noise', 'clip_qkv'],
  ...[
    'rms_norm_eps',
    'layer_norm_epsilon',
    'initializer_range',
    'initializer_factor',
    'router_aux_loss_coef',
  ],
  ...['router_z_loss_coef', 'routed_scaling_factor', 'rope_theta', 'factor'],
  ...[
    'low_freq_factor',
    'high_freq_factor',
    'beta_fast',
    'beta_slow',
    'attention_factor',
    'mscale',
    'mscale_all_dim',
  ],
];

const wholeFloat = new RegExp(String.raw`^( *"(?:${floats.join('|')})": -?\d+)(?=,?$)`, 'gm');

/** Text of a `config.json`, with a point in every number that has to be a float. */
export function configText(config: JsonObject): string {
  return `${encodeJson(config, 2).replace(wholeFloat, '$1.0')}\n`;
}
