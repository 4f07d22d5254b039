/**
 * Position information for attention: rotary tables and T5's relative bias.
 * @module
 */
import { constant, gather, transpose, type DType, type Tensor } from '../graph/index.js';
import { Module, Parameter } from './module.js';
import type { Initializer } from './initializers.js';

/**
 * Tables for `rotatePairs`: angle of position t and pair i is t · base^(−2i / headSize) radians.
 *
 * @returns cosine and sine, each `[time, headSize / 2]`.
 * @throws RangeError if headSize is odd.
 */
export function rotaryTables(
  time: number,
  headSize: number,
  dtype: DType,
  base = 10_000,
): { cosine: Tensor; sine: Tensor } {
  if (headSize % 2 !== 0) throw new RangeError(`rotary positions need an even head size, not ${headSize}`);
  const half = headSize / 2;
  const angles = Float64Array.from({ length: time * half }, (_, at) => {
    const position = Math.floor(at / half);
    return position * Math.pow(base, (-2 * (at % half)) / headSize);
  });
  const table = (f: (angle: number) => number): Tensor => constant(dtype, [time, half], angles.map(f));
  return { cosine: table(Math.cos), sine: table(Math.sin) };
}

/**
 * Bucket of the relative position `key − query` (T5; switch_transformers in Hugging Face).
 *
 * @param bidirectional encoders spend half of the buckets on keys to the right; decoders see only the left.
 */
export function relativeBucket(
  relative: number,
  bidirectional: boolean,
  numBuckets = 32,
  maxDistance = 128,
): number {
  const buckets = bidirectional ? numBuckets / 2 : numBuckets;
  const offset = bidirectional && relative > 0 ? buckets : 0;
  const distance = bidirectional ? Math.abs(relative) : Math.max(-relative, 0);
  const exact = buckets / 2;
  if (distance < exact) return offset + distance;
  // float32, as in the reference: the logarithm sits exactly on bucket borders.
  const ratio = Math.fround(
    Math.fround(Math.log(Math.fround(distance / exact))) / Math.log(maxDistance / exact),
  );
  const logarithmic = exact + Math.floor(Math.fround(ratio * (buckets - exact)));
  return offset + Math.min(logarithmic, buckets - 1);
}

/** T5's learned bias per head and bucket, added to attention scores. One table serves all layers of a stack. */
export class RelativePositionBias extends Module {
  readonly weight: Parameter;

  constructor(
    readonly numHeads: number,
    readonly bidirectional: boolean,
    initializer: Initializer,
    readonly numBuckets = 32,
    readonly maxDistance = 128,
  ) {
    super();
    this.weight = new Parameter([numBuckets, numHeads], initializer);
  }

  /** Bias `[numHeads, queryTime, keyTime]` for the positions 0 … of both sides. */
  forward(queryTime: number, keyTime: number): Tensor {
    const buckets = Int32Array.from({ length: queryTime * keyTime }, (_, at) =>
      relativeBucket(
        (at % keyTime) - Math.floor(at / keyTime),
        this.bidirectional,
        this.numBuckets,
        this.maxDistance,
      ),
    );
    const values = gather(this.weight.tensor, constant('int32', [queryTime, keyTime], buckets));
    return transpose(values, [2, 0, 1]);
  }
}
