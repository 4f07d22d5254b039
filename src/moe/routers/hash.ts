/**
 * Hash routing: a token's id alone says which experts it meets, by a table that never changes (Roller et al., Hash
 * Layers, arXiv 2106.04426 §3).
 * @module
 */
import { z } from 'zod';
import { cast, constant, fill, gather, multiply, oneHot, sum, type Tensor } from '../../graph/index.js';
import { Module, RandomStream, streamKey } from '../../nn/index.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import type { Router, RouterModule, Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';

/** Settings of {@link HashRouter}. */
export interface HashOptions {
  readonly numExperts: number;
  readonly topK: number;
  readonly vocabSize: number;
  /** Another seed, another table. */
  readonly seed?: number;
}

/**
 * Sends every token id to `topK` fixed, distinct experts, each with the gate `1 / topK`. The table is random and
 * balanced: no expert has two ids more than another in any of its columns. It has no parameters and learns nothing.
 */
export class HashRouter extends Module implements Router {
  private readonly table: Int32Array;

  constructor(private readonly options: HashOptions) {
    super();
    this.table = balancedTable(options);
  }

  get numExperts(): number {
    return this.options.numExperts;
  }

  get topK(): number {
    return this.options.topK;
  }

  /** @throws Error if the context has no token ids. */
  route(hidden: Tensor, { tokenIds, layerIndex }: FeedForwardContext): Routing {
    const { numExperts, topK, vocabSize } = this.options;
    if (!tokenIds) {
      throw new Error(
        `layer ${layerIndex} routes by token ids, but its model has none; choose another router than 'hash'`,
      );
    }
    const table = constant('int32', [vocabSize, topK], this.table);
    const experts = cast(gather(table, tokenIds), 'int64');
    return {
      experts,
      gates: fill(hidden.dtype, experts.shape, 1 / topK),
      probabilities: multiply(sum(oneHot(experts, numExperts, hidden.dtype), 1), 1 / topK),
      losses: [],
    };
  }
}

/**
 * `[vocabSize · topK]`: ids in a random order, cut into blocks of `numExperts`; each block hands out the experts of
 * every column in a random cycle, the columns of a block being that cycle turned by distinct amounts.
 */
function balancedTable({ numExperts, topK, vocabSize, seed = 0 }: HashOptions): Int32Array {
  const random = new RandomStream(streamKey(seed, 'hash routing', vocabSize, numExperts));
  const table = new Int32Array(vocabSize * topK);
  let cycle: number[] = [];
  let turns: number[] = [];
  shuffled(vocabSize, random).forEach((id, i) => {
    const at = i % numExperts;
    if (at === 0) {
      cycle = shuffled(numExperts, random);
      turns = shuffled(numExperts, random);
    }
    for (let column = 0; column < topK; column++) {
      table[id * topK + column] = cycle[(at + turns[column]) % numExperts];
    }
  });
  return table;
}

/** 0 … `count` − 1 in random order. */
function shuffled(count: number, random: RandomStream): number[] {
  const list = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

const schema = z.strictObject({
  kind: z.literal('hash'),
  seed: z.int().min(0).default(0),
});

/** `hash` in a recipe. */
export const hash: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) => new HashRouter({ ...sizes, ...options }),
};
