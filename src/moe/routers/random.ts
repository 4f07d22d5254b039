/**
 * Random routing: what a router has to beat (a baseline of Hash Layers, arXiv 2106.04426 §4, and of many after it).
 * @module
 */
import { z } from 'zod';
import {
  add,
  cast,
  constant,
  fill,
  modulo,
  multiply,
  reshape,
  topK as largest,
  type Tensor,
} from '../../graph/index.js';
import { Module, RandomStream, streamKey } from '../../nn/index.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import type { Router, RouterModule, Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';

/** Settings of {@link RandomRouter}. */
export interface RandomOptions {
  readonly numExperts: number;
  readonly topK: number;
  /** Another seed, other experts outside training. */
  readonly seed?: number;
}

/** 2³¹ − 1, a prime: squares of remainders still fit 64 bits. */
const prime = 2147483647;

/**
 * Draws `topK` distinct experts per token, all equally likely, each with the gate `1 / topK`: from fresh noise in
 * training, and outside it from a hash of the token's id and its place in the sequence, so that an evaluation gives
 * the same numbers every time.
 */
export class RandomRouter extends Module implements Router {
  constructor(private readonly options: RandomOptions) {
    super();
  }

  get numExperts(): number {
    return this.options.numExperts;
  }

  get topK(): number {
    return this.options.topK;
  }

  /** @throws Error if the context has no token ids outside training. */
  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { numExperts, topK } = this.options;
    const shape = [hidden.shape[0] as number, numExperts];
    const scores = context.training
      ? context.noise.request(`${context.site}.router`, 'uniform', hidden.dtype, shape)
      : this.hashed(shape[0], context);
    const { indices: experts } = largest(scores, topK);
    return {
      experts,
      gates: fill(hidden.dtype, experts.shape, 1 / topK),
      probabilities: fill(hidden.dtype, shape, 1 / numExperts),
      losses: [],
    };
  }

  /**
   * Int64 `[tokens, numExperts]`: `((id · a_e + position · b_e + c_e) mod p)² mod p` with random a, b, c per expert.
   * The square breaks the straight line along which neighbours would follow each other.
   */
  private hashed(tokens: number, context: FeedForwardContext): Tensor {
    const { tokenIds, batchSize, layerIndex } = context;
    if (!tokenIds) {
      throw new Error(
        `layer ${layerIndex} routes by token ids outside training, but its model has none; choose another router than 'random'`,
      );
    }
    const { numExperts, seed = 0 } = this.options;
    const random = new RandomStream(streamKey(seed, 'random routing', layerIndex, numExperts));
    const draw = (): Tensor =>
      whole(
        [1, numExperts],
        Array.from({ length: numExperts }, () => 1 + random.integer(prime - 1)),
      );
    const perSequence = tokens / batchSize;
    const position = context.positions
      ? reshape(cast(context.positions, 'int64'), [tokens, 1])
      : whole(
          [tokens, 1],
          Array.from({ length: tokens }, (_, token) => token % perSequence),
        );
    const id = reshape(cast(tokenIds, 'int64'), [tokens, 1]);
    const line = add(add(multiply(id, draw()), multiply(position, draw())), draw());
    const remainder = modulo(line, prime);
    return modulo(multiply(remainder, remainder), prime);
  }
}

function whole(shape: readonly number[], values: readonly number[]): Tensor {
  return cast(constant('int32', shape, Int32Array.from(values)), 'int64');
}

const schema = z.strictObject({
  kind: z.literal('random'),
  seed: z.int().min(0).default(0),
});

/** `random` in a recipe. */
export const random: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) => new RandomRouter({ ...sizes, ...options }),
};
