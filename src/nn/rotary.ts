/**
 * Rotary positions: angles of pairs of features, and how they are stretched for texts longer than those of pre-training.
 * @module
 */
import { constant, rotatePairs, type DType, type RotationOptions, type Tensor } from '../graph/index.js';

/** Angles divided by a factor: positions are interpolated (arXiv 2306.15595). */
export interface LinearScaling {
  readonly kind: 'linear';
  readonly factor: number;
}

/** Llama 3.1: long wavelengths are divided by a factor, short ones kept, those between blended. */
export interface Llama3Scaling {
  readonly kind: 'llama3';
  readonly factor: number;
  /** Pairs that turn fewer times than this in the original context are long. */
  readonly lowFrequencyFactor: number;
  /** Pairs that turn more often than this in the original context are short. */
  readonly highFrequencyFactor: number;
  /** Tokens of a text in pre-training. */
  readonly originalContextLength: number;
}

/** YaRN (arXiv 2309.00071): the same idea with a linear ramp over pairs, and a factor on queries and keys. */
export interface YarnScaling {
  readonly kind: 'yarn';
  readonly factor: number;
  /** Tokens of a text in pre-training. */
  readonly originalContextLength: number;
  /** Pairs that turn more often than this in the original context are kept; 32 in the paper. */
  readonly betaFast: number;
  /** Pairs that turn less often than this are divided by the factor; 1 in the paper. */
  readonly betaSlow: number;
  /** Whether the ramp begins and ends at whole pairs. */
  readonly truncate: boolean;
  /** Factor on the tables; `0.1 ln factor + 1` when absent, or as {@link mscale} says. */
  readonly attentionFactor?: number | undefined;
  /** DeepSeek's coefficient in the place of that 0.1: `0.1 mscale ln factor + 1`. */
  readonly mscale?: number | undefined;
  /** The same for all features alike: divides the factor on the tables, and its square multiplies the scores. */
  readonly mscaleAllDim?: number | undefined;
}

/** How angles are stretched. */
export type RotaryScaling = LinearScaling | Llama3Scaling | YarnScaling;

/** Settings of rotary positions. */
export interface RotarySettings {
  /** θ of the angles t · θ^(−2i / headSize); 10,000 when absent. */
  readonly base?: number | undefined;
  readonly scaling?: RotaryScaling | undefined;
  /** Pairs are neighbours, as in the paper; by default they are half a head apart. */
  readonly interleaved?: boolean | undefined;
}

/** Tables of rotary positions and, where tokens do not stand at 0 … time − 1, which rows are theirs. */
export interface RotaryPositions extends RotationOptions {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/** Rotates queries or keys `[batch, heads, time, headSize]`; leaves them where there are no rotary positions. */
export function rotate(x: Tensor, rotary: RotaryPositions | undefined): Tensor {
  return rotary ? rotatePairs(x, rotary.cosine, rotary.sine, rotary) : x;
}

/**
 * Tables for `rotatePairs`: angle of position t and pair i is t · base^(−2i / headSize) radians before scaling.
 *
 * @returns cosine and sine, each `[time, headSize / 2]`.
 * @throws RangeError if headSize is odd.
 */
export function rotaryTables(
  time: number,
  headSize: number,
  dtype: DType,
  settings: RotarySettings = {},
): RotaryPositions {
  const frequencies = rotaryFrequencies(headSize, settings);
  const half = frequencies.length;
  const factor = settings.scaling?.kind === 'yarn' ? tableFactor(settings.scaling) : 1;
  const table = (f: (angle: number) => number): Tensor =>
    constant(
      dtype,
      [time, half],
      Float64Array.from(
        { length: time * half },
        (_, at) => factor * f(Math.floor(at / half) * frequencies[at % half]),
      ),
    );
  return { cosine: table(Math.cos), sine: table(Math.sin), interleaved: settings.interleaved ?? false };
}

/**
 * Angle of each pair at position 1, in radians.
 * @throws RangeError if headSize is odd.
 */
export function rotaryFrequencies(
  headSize: number,
  { base = 10_000, scaling }: RotarySettings = {},
): Float64Array {
  if (headSize % 2 !== 0) throw new RangeError(`rotary positions need an even head size, not ${headSize}`);
  const plain = Float64Array.from({ length: headSize / 2 }, (_, i) => Math.pow(base, (-2 * i) / headSize));
  switch (scaling?.kind) {
    case undefined:
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor);
    case 'llama3':
      return plain.map((frequency) => blend(frequency, scaling.factor, keptShare(frequency, scaling)));
    case 'yarn': {
      const [low, high] = rampOf(headSize, base, scaling);
      return plain.map((frequency, i) =>
        blend(frequency, scaling.factor, 1 - Math.min(1, Math.max(0, (i - low) / (high - low)))),
      );
    }
  }
}

/** Factor on the scores of a layer whose features without positions are to be scaled alike (DeepSeek-V2). */
export function scoreFactor(scaling: RotaryScaling | undefined): number {
  if (scaling?.kind !== 'yarn' || !scaling.mscaleAllDim) return 1;
  return magnitude(scaling.factor, scaling.mscaleAllDim) ** 2;
}

function tableFactor({ attentionFactor, factor, mscale, mscaleAllDim }: YarnScaling): number {
  if (attentionFactor !== undefined) return attentionFactor;
  return mscale && mscaleAllDim
    ? magnitude(factor, mscale) / magnitude(factor, mscaleAllDim)
    : magnitude(factor, 1);
}

function magnitude(factor: number, coefficient: number): number {
  return factor <= 1 ? 1 : 0.1 * coefficient * Math.log(factor) + 1;
}

/** Between a frequency (share 1) and the same divided by a factor (share 0). */
function blend(frequency: number, factor: number, share: number): number {
  return frequency * share + (frequency / factor) * (1 - share);
}

function keptShare(
  frequency: number,
  { lowFrequencyFactor: low, highFrequencyFactor: high, originalContextLength }: Llama3Scaling,
): number {
  const turns = (originalContextLength * frequency) / (2 * Math.PI);
  if (turns < low) return 0;
  return turns > high ? 1 : (turns - low) / (high - low);
}

/** Pairs between which the ramp runs. */
function rampOf(headSize: number, base: number, scaling: YarnScaling): [low: number, high: number] {
  const { originalContextLength, betaFast, betaSlow, truncate } = scaling;
  const pairThatTurns = (turns: number): number =>
    (headSize * Math.log(originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [first, last] = [pairThatTurns(betaFast), pairThatTurns(betaSlow)];
  const low = Math.max(truncate ? Math.floor(first) : first, 0);
  const high = Math.min(truncate ? Math.ceil(last) : last, headSize - 1);
  return [low, low === high ? high + 0.001 : high];
}
