/**
 * Options of rotary positions, as they stand in a recipe.
 * @module
 */
import { z } from 'zod';

const factor = z.number().positive();
const length = z.int().min(1);

const scalingSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('linear'), factor }),
  z.strictObject({
    kind: z.literal('llama3'),
    factor,
    lowFrequencyFactor: factor,
    highFrequencyFactor: factor,
    /** Tokens of a text in pre-training. */
    originalContextLength: length,
  }),
  z.strictObject({
    kind: z.literal('yarn'),
    factor,
    /** Tokens of a text in pre-training. */
    originalContextLength: length,
    betaFast: factor.default(32),
    betaSlow: factor.default(1),
    /** Whether the ramp begins and ends at whole pairs. */
    truncate: z.boolean().default(true),
    /** Factor on the rotated queries and keys; computed from the others when absent. */
    attentionFactor: factor.optional(),
    /** DeepSeek's coefficients of `0.1 · … · ln factor + 1`. */
    mscale: z.number().min(0).optional(),
    mscaleAllDim: z.number().min(0).optional(),
  }),
]);

/** Settings of rotary positions. */
export const rotarySchema = z.strictObject({
  /** θ of the angles t · θ^(−2i / headSize). */
  base: z.number().gt(1).default(10_000),
  /** How angles are stretched for texts longer than those of pre-training: linear, Llama 3.1's way, or YaRN. */
  scaling: scalingSchema.optional(),
  /** Pairs are neighbours, as in the paper; by default they are half a head apart, as in Hugging Face's Llama. */
  interleaved: z.boolean().default(false),
});
