/**
 * Rotary positions in configurations: `rope_theta` and `rope_scaling`, or since version 5 of `transformers`
 * `rope_parameters`.
 * @module
 */
import type { LanguageModelOptions } from '../../models/index.js';
import type { JsonObject } from '../json.js';
import type { ConfigReader } from './config-reader.js';
import { UnfitModelError } from './errors.js';

type RotaryOptions = NonNullable<LanguageModelOptions['rotary']>;
type Scaling = NonNullable<RotaryOptions['scaling']>;

/** Keys of YaRN's coefficients, with our names. */
const yarnNumbers = [
  ['beta_fast', 'betaFast'],
  ['beta_slow', 'betaSlow'],
  ['attention_factor', 'attentionFactor'],
  ['mscale', 'mscale'],
  ['mscale_all_dim', 'mscaleAllDim'],
] as const;

/**
 * Reads either form.
 * @param theta the family's own base.
 * @param contextLength what `original_max_position_embeddings` is when absent.
 */
export function readRotary(config: ConfigReader, theta: number, contextLength: number): RotaryOptions {
  const parameters = config.section('rope_parameters');
  const older = config.section('rope_scaling');
  if (parameters && older) config.refuse('rope_parameters and rope_scaling both set the angles; keep one');
  const outer = config.optionalNumber('rope_theta');
  config.only('partial_rotary_factor', 1);
  const section = parameters ?? older;
  const base = section?.optionalNumber('rope_theta') ?? outer ?? theta;
  if (outer !== undefined && base !== outer)
    config.refuse(`rope_theta is ${outer}, but ${base} in rope_parameters; keep one`);
  if (!section) return { base, interleaved: false };
  section.only('partial_rotary_factor', 1);
  const scaling = readScaling(section, contextLength);
  section.finish(scaling ? `${scaling.kind} scaling` : 'the default angles');
  return { base, ...(scaling ? { scaling } : {}), interleaved: false };
}

function readScaling(section: ConfigReader, contextLength: number): Scaling | undefined {
  const kinds = { default: 'default', linear: 'linear', llama3: 'llama3', yarn: 'yarn' } as const;
  const key = section.value('rope_type') === undefined ? 'type' : 'rope_type';
  section.ignore('type');
  const kind = section.choice(key, kinds, 'default');
  if (kind === 'default') return undefined;
  const factor = section.requiredNumber('factor');
  if (kind === 'linear') return { kind, factor };
  const originalContextLength = section.size('original_max_position_embeddings', contextLength);
  if (kind === 'llama3') {
    const lowFrequencyFactor = section.requiredNumber('low_freq_factor');
    return {
      kind,
      factor,
      lowFrequencyFactor,
      highFrequencyFactor: section.requiredNumber('high_freq_factor'),
      originalContextLength,
    };
  }
  const numbers = yarnNumbers.flatMap(([name, ours]) => {
    const value = section.optionalNumber(name);
    return value === undefined ? [] : [[ours, value] as const];
  });
  return {
    kind,
    factor,
    originalContextLength,
    betaFast: 32,
    betaSlow: 1,
    ...Object.fromEntries(numbers),
    truncate: section.boolean('truncate', true),
  };
}

/** The older form, which all versions read. */
export function writeRotary({ positions, rotary }: LanguageModelOptions): JsonObject {
  if (positions !== 'rotary') throw new UnfitModelError(`its positions are rotary, not ${positions}`);
  const { base = 10_000, scaling } = rotary ?? {};
  return { rope_theta: base, ...(scaling ? { rope_scaling: writeScaling(scaling) } : {}) };
}

function writeScaling(scaling: Scaling): JsonObject {
  const common = { rope_type: scaling.kind, factor: scaling.factor };
  if (scaling.kind === 'linear') return common;
  const { originalContextLength: original_max_position_embeddings } = scaling;
  if (scaling.kind === 'llama3') {
    const { lowFrequencyFactor: low_freq_factor, highFrequencyFactor: high_freq_factor } = scaling;
    return { ...common, low_freq_factor, high_freq_factor, original_max_position_embeddings };
  }
  const numbers = yarnNumbers.flatMap(([name, ours]) => {
    const value = scaling[ours];
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    ...common,
    original_max_position_embeddings,
    ...Object.fromEntries(numbers),
    ...(scaling.truncate ? {} : { truncate: false }),
  };
}
