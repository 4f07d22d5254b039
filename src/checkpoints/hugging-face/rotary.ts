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

/**
 * Reads either form.
 * @param theta the family's own base.
 */
export function readRotary(config: ConfigReader, theta: number, _contextLength: number): RotaryOptions {
  const parameters = config.section('rope_parameters');
  const scaling = config.section('rope_scaling');
  if (parameters && scaling) config.refuse('rope_parameters and rope_scaling both set the angles; keep one');
  const base = parameters?.optionalNumber('rope_theta') ?? config.optionalNumber('rope_theta') ?? theta;
  config.only('partial_rotary_factor', 1);
  const section = parameters ?? scaling;
  section?.only('rope_type', 'default');
  section?.only('type', 'default');
  section?.only('partial_rotary_factor', 1);
  section?.finish('rotary positions');
  return { base };
}

/** The older form, which all versions read. */
export function writeRotary({ positions, rotary }: LanguageModelOptions): JsonObject {
  if (positions !== 'rotary') throw new UnfitModelError(`its positions are rotary, not ${positions}`);
  return { rope_theta: rotary?.base ?? 10_000 };
}
