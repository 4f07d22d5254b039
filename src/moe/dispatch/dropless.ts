/**
 * Dispatch without capacity: every choice is served. Tokens are sorted by expert and cut by run-time counts, so each
 * expert multiplies exactly its rows (MegaBlocks' idea, arXiv 2211.15841, with `Split` in place of block sparsity).
 * @module
 */
import {
  argSort,
  cast,
  concat,
  constant,
  divide,
  exchangeRows,
  invertPermutation,
  multiply,
  oneHot,
  reshape,
  split,
  sum,
  type Tensor,
} from '../../graph/index.js';
import type { Dispatch, Dispatched } from '../dispatch.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Routing } from '../router.js';

/** Serves every choice. Padding is carried along and comes back as zeros. */
export class DroplessDispatch implements Dispatch {
  dispatch(
    hidden: Tensor,
    { experts }: Routing,
    numExperts: number,
    context: FeedForwardContext,
  ): Dispatched {
    const [tokens, topK] = experts.shape as [number, number];
    const totalRows = tokens * topK;
    const choices = reshape(experts, [totalRows]);
    const order = argSort(choices);
    const position = invertPermutation(order);
    const counts = cast(sum(oneHot(choices, numExperts, 'float32'), 0), 'int64');
    const tokenOfPlace = topK === 1 ? order : divide(order, topK);
    const sorted = exchangeRows(hidden, tokenOfPlace, position, { repeats: topK });
    const names = Array.from({ length: numExperts }, (_, expert) => `${context.site}.rows${expert}`);
    const pieces = split(sorted, names, 0, counts);
    return {
      rows: { pieces, totalRows, counts },
      dropped: constant('int32', [], [0]),
      collect: (outputs) => {
        const joined = concat(outputs, 0, { size: totalRows, counts });
        const rows = reshape(exchangeRows(joined, position, order), [tokens, topK, hidden.shape[1]]);
        return context.tokenMask ? multiply(rows, reshape(context.tokenMask, [tokens, 1, 1])) : rows;
      },
    };
  }
}
