/**
 * T5's relative positions.
 * @module
 */
import {
  add,
  cast,
  constant,
  gather,
  maximum,
  minimum,
  range,
  reshape,
  subtract,
  transpose,
  type Tensor,
} from '../graph/index.js';
import { Module, Parameter } from './module.js';
import type { Initializer } from './initializers.js';

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
  const buckets = bidirectional ? Math.floor(numBuckets / 2) : numBuckets;
  const offset = bidirectional && relative > 0 ? buckets : 0;
  const distance = bidirectional ? Math.abs(relative) : Math.max(-relative, 0);
  const exact = Math.floor(buckets / 2);
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

  /**
   * Bias `[batch, numHeads, time, keyTime]` of queries that stand anywhere.
   * @param positions integers `[batch, time]`: where the queries stand; keys stand at 0 … keyTime − 1.
   */
  at(positions: Tensor, keyTime: number): Tensor {
    const [batch, time] = positions.shape as [number, number];
    const { maxDistance: far } = this;
    // Farther than `far`, every distance has the last bucket.
    const buckets = Int32Array.from({ length: 2 * far + 1 }, (_, at) =>
      relativeBucket(at - far, this.bidirectional, this.numBuckets, far),
    );
    const relative = subtract(range(keyTime), reshape(cast(positions, 'int64'), [batch, time, 1]));
    const row = add(minimum(maximum(relative, -far), far), far);
    const bucket = gather(constant('int32', [2 * far + 1], buckets), row);
    return transpose(gather(this.weight.tensor, bucket), [0, 3, 1, 2]);
  }
}
