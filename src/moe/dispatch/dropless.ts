/**
 * Dispatch without capacity: every choice is served. Tokens are sorted by expert and cut by run-time counts, so each
 * expert multiplies exactly its rows (MegaBlocks' idea, arXiv 2211.15841, with `Split` in place of block sparsity).
 * @module
 */
import { z } from 'zod';
import {
  argSort,
  cast,
  concat,
  constant,
  divide,
  less,
  exchangeRows,
  invertPermutation,
  multiply,
  oneHot,
  reshape,
  split,
  subtract,
  sum,
  where,
  type Tensor,
} from '../../graph/index.js';
import type { Dispatch, Dispatched } from '../dispatch.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import type { Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';

/** Serves every choice. Padding is carried along and comes back as zeros; choices of −1 are left out. */
export class DroplessDispatch implements Dispatch {
  dispatch(hidden: Tensor, routing: Routing, numExperts: number, context: FeedForwardContext): Dispatched {
    const [tokens, topK] = routing.experts.shape as [number, number];
    const totalRows = tokens * topK;
    const choices = reshape(routing.experts, [totalRows]);
    const order = argSort(choices);
    const counts = cast(sum(oneHot(choices, numExperts, 'float32'), 0), 'int64');
    const names = Array.from({ length: numExperts }, (_, expert) => `${context.site}.rows${expert}`);
    const tokenOf = (choice: Tensor): Tensor => (topK === 1 ? choice : divide(choice, topK));
    const masked = (rows: Tensor): Tensor => {
      const shaped = reshape(rows, [tokens, topK, rows.shape[1]]);
      return context.tokenMask ? multiply(shaped, reshape(context.tokenMask, [tokens, 1, 1])) : shaped;
    };
    const dropped = constant('int32', [], [0]);
    if (!routing.partial) {
      const position = invertPermutation(order);
      const sorted = exchangeRows(hidden, tokenOf(order), position, { repeats: topK });
      return {
        rows: { pieces: split(sorted, names, 0, counts), totalRows, counts },
        dropped,
        collect: (outputs) => {
          const joined = concat(outputs, 0, { size: totalRows, counts });
          return masked(exchangeRows(joined, position, order));
        },
      };
    }
    // Sorted, the choices of −1 come first: they are cut off before any row is copied.
    const made = sum(counts, 0, true);
    const spare = subtract(totalRows, made);
    const [chosen, nobody] = [`${context.site}.chosen`, `${context.site}.nobody`];
    const choiceOfPlace = split(order, [nobody, chosen], 0, concat([spare, made], 0))[1];
    const place = subtract(invertPermutation(order), spare);
    const placeOfChoice = where(less(place, 0), made, place);
    const open = { open: true };
    const sorted = exchangeRows(hidden, tokenOf(choiceOfPlace), placeOfChoice, { repeats: topK, ...open });
    return {
      rows: {
        pieces: split(sorted, names, 0, counts),
        totalRows,
        counts,
        spare: { size: nobody, counts: concat([counts, spare], 0) },
      },
      dropped,
      collect: (outputs) => {
        const joined = concat(outputs, 0, { size: chosen, counts });
        return masked(exchangeRows(joined, placeOfChoice, choiceOfPlace, open));
      },
    };
  }
}

const schema = z.strictObject({ kind: z.literal('dropless') });

/** `dropless` in a recipe. */
export const dropless: Kind<typeof schema, SparseLayerSizes, Dispatch> = {
  schema,
  create: () => new DroplessDispatch(),
};
