/**
 * Dispatch with a fixed number of places per expert, as the Switch Transformer trains (arXiv 2101.03961 §2.2, and
 * Mesh-TensorFlow's `moe.py` for the counting).
 * @module
 */
import { z } from 'zod';
import {
  add,
  cast,
  concat,
  constant,
  cumulativeSum,
  divide,
  exchangeRows,
  fill,
  greater,
  greaterEqual,
  less,
  logicalAnd,
  logicalNot,
  multiply,
  oneHot,
  range,
  reshape,
  scatterAdd,
  slice,
  split,
  subtract,
  sum,
  transpose,
  where,
  type Tensor,
} from '../../graph/index.js';
import type { Dispatch, Dispatched } from '../dispatch.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { group } from '../options.js';
import type { Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';

/** Settings of {@link CapacityDispatch}. */
export interface CapacityOptions {
  /** Places per expert as a multiple of an even share; Switch trains with 1.25. */
  readonly capacityFactor: number;
  /**
   * This many places per expert and group whatever the group's size, in place of factors and minimum: Hugging Face's
   * `expert_capacity`, with groups of one sequence.
   */
  readonly capacity?: number | undefined;
  /** The same outside training; Switch evaluates with 2. */
  readonly evalCapacityFactor?: number;
  /** Places an expert has at least; 4 in the reference code. */
  readonly minimumCapacity?: number;
  /** Tokens that compete for the same places: the whole batch, or each sequence by itself. */
  readonly group?: 'batch' | 'sequence';
}

/**
 * Places per expert and group: `max(minimum, min(T, ⌊T·k·factor / N⌋))`. No expert needs more places than there are
 * tokens, because a token never chooses the same expert twice.
 */
export function expertCapacity(
  tokensPerGroup: number,
  topK: number,
  numExperts: number,
  factor: number,
  minimum: number,
): number {
  // A factor of numExperts / topK is meant to have room for everyone, and rounds to just below it for some sizes.
  const share = Math.floor(((tokensPerGroup * topK * factor) / numExperts) * (1 + 1e-12));
  return Math.max(minimum, Math.min(tokensPerGroup, share));
}

/**
 * First come, first served: places go to earlier tokens first, and to all first choices before any second choice.
 * A choice without a place is dropped: its output is 0 and only the residual connection carries the token on.
 * Padding takes no place, nor does a choice of −1.
 */
export class CapacityDispatch implements Dispatch {
  constructor(private readonly options: CapacityOptions) {}

  /** First choices of later tokens take places before second choices of earlier ones, unless nobody can overflow. */
  leak(topK: number, numExperts: number): string | undefined {
    const { capacityFactor, evalCapacityFactor = capacityFactor, capacity } = this.options;
    const enough = numExperts / topK;
    if (topK === 1 || (capacity === undefined && evalCapacityFactor >= enough)) return undefined;
    const remedy =
      capacity === undefined
        ? `evalCapacityFactor ${enough} drops nobody`
        : `without capacity ${capacity}, evalCapacityFactor ${enough} drops nobody`;
    return `first choices of later tokens take places before second choices of earlier ones; ${remedy}`;
  }

  dispatch(
    hidden: Tensor,
    { experts, partial = false }: Routing,
    numExperts: number,
    context: FeedForwardContext,
  ): Dispatched {
    const {
      capacityFactor,
      evalCapacityFactor = capacityFactor,
      minimumCapacity = 4,
      capacity: fixed,
      group = 'batch',
    } = this.options;
    const [tokens, topK] = experts.shape as [number, number];
    const groups = group === 'sequence' ? context.batchSize : 1;
    const factor = context.training ? capacityFactor : evalCapacityFactor;
    const capacity =
      fixed === undefined
        ? expertCapacity(tokens / groups, topK, numExperts, factor, minimumCapacity)
        : Math.min(fixed, tokens / groups);

    const queue = positionsInQueue(experts, numExperts, groups, context.tokenMask);
    const fits = less(queue, capacity);
    const unpadded = context.tokenMask && reshape(greater(context.tokenMask, 0), [tokens, 1]);
    const made = partial ? greaterEqual(experts, 0) : undefined;
    const real = unpadded && made ? logicalAnd(unpadded, made) : (unpadded ?? made);
    const kept = real ? logicalAnd(fits, real) : fits;
    const overflow = real ? logicalAnd(logicalNot(fits), real) : logicalNot(fits);

    const places = numExperts * groups * capacity;
    const groupOfToken = Int32Array.from({ length: tokens }, (_, token) =>
      Math.floor((token * groups) / tokens),
    );
    const shelf = add(multiply(experts, groups), cast(constant('int32', [tokens, 1], groupOfToken), 'int64'));
    const place = add(multiply(shelf, capacity), cast(queue, 'int64'));
    const placeOfChoice = reshape(where(kept, place, places), [tokens * topK]);
    const choiceOfPlace = invert(placeOfChoice, places);
    // An empty place holds the choice `tokens · topK`, which the division turns into the token `tokens`: also empty.
    const tokenOfPlace = topK === 1 ? choiceOfPlace : divide(choiceOfPlace, topK);

    const sorted = exchangeRows(hidden, tokenOfPlace, placeOfChoice, { repeats: topK, open: true });
    const pieces = split(sorted, new Array<number>(numExperts).fill(groups * capacity), 0);
    return {
      rows: { pieces, totalRows: places },
      dropped: cast(sum(cast(overflow, 'float32')), 'int32'),
      collect: (outputs) => {
        const rows = exchangeRows(concat(outputs, 0), placeOfChoice, choiceOfPlace, { open: true });
        return reshape(rows, [tokens, topK, rows.shape[1]]);
      },
    };
  }
}

/**
 * How many choices of the same expert and group come before each choice, counting real tokens only: float32
 * `[tokens, topK]`. All first choices come before any second choice.
 */
export function positionsInQueue(
  experts: Tensor,
  numExperts: number,
  groups: number,
  mask: Tensor | undefined,
): Tensor {
  const [tokens, topK] = experts.shape as [number, number];
  const perGroup = tokens / groups;
  const chosen = oneHot(experts, numExperts, 'float32');
  const counted = mask ? multiply(chosen, reshape(cast(mask, 'float32'), [tokens, 1, 1])) : chosen;
  const byRank = transpose(reshape(counted, [groups, perGroup, topK, numExperts]), [0, 2, 1, 3]);
  const queue = reshape(byRank, [groups, topK * perGroup, numExperts]);
  const before = sum(multiply(cumulativeSum(queue, 1, { exclusive: true }), queue), 2);
  return reshape(transpose(reshape(before, [groups, topK, perGroup]), [0, 2, 1]), [tokens, topK]);
}

/** Which choice sits in each place, or the number of choices where none does: int64 `[places]`. */
function invert(placeOfChoice: Tensor, places: number): Tensor {
  const choices = placeOfChoice.shape[0] as number;
  // One place more than there are: dropped choices all land in it, and it is cut off.
  const empty = fill('int64', [places + 1], choices);
  return slice(scatterAdd(empty, placeOfChoice, subtract(range(choices), choices), 0), 0, 0, places);
}

const schema = z.strictObject({
  kind: z.literal('capacity'),
  capacityFactor: z.number().positive().default(1.25),
  evalCapacityFactor: z.number().positive().default(2),
  minimumCapacity: z.int().min(1).default(4),
  /** Places per expert and group in place of the three above (Hugging Face's `expert_capacity`). */
  capacity: z.int().min(1).optional(),
  group,
});

/** `capacity` in a recipe. */
export const capacity: Kind<typeof schema, SparseLayerSizes, Dispatch> = {
  schema,
  create: (options) => new CapacityDispatch(options),
};
