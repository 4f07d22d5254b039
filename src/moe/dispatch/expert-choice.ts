/**
 * Dispatch of a decision in which experts chose their tokens: every expert has its places filled already.
 * @module
 */
import {
  add,
  broadcastTo,
  cast,
  concat,
  constant,
  customGradient,
  equal,
  exchangeRows,
  fill,
  gather,
  multiply,
  range,
  reshape,
  scatterAdd,
  split,
  subtract,
  sum,
  unstack,
  where,
  type Tensor,
} from '../../graph/index.js';
import type { Dispatch, Dispatched } from '../dispatch.js';
import type { Routing } from '../router.js';

/** What experts chose. */
export interface ExpertsChoice {
  /** Int64 `[numExperts, places]`: the token in each place; an expert never has the same token twice. */
  readonly tokens: Tensor;
  /** Float `[numExperts, places]`: its gate, with a gradient to the router; 0 in places that do not count. */
  readonly gates: Tensor;
}

/**
 * Up to this many experts per place and token, a gather per expert (1 ns an element, all threads) beats one scatter
 * (16 ns an element, one thread).
 */
const gatherLimit = 16;

/**
 * Gathers rows by expert, a static number each, and adds the gated outputs to their tokens. Nothing is larger than all
 * places together: a token that many experts chose needs no room of its own.
 */
export class ExpertChoiceDispatch implements Dispatch {
  constructor(private readonly choice: ExpertsChoice) {}

  dispatch(hidden: Tensor, routing: Routing): Dispatched {
    const { tokens, gates } = this.choice;
    const [numExperts, places] = tokens.shape as [number, number];
    const totalRows = numExperts * places;
    const flat = reshape(tokens, [totalRows]);
    const perExpert = (rows: Tensor): readonly Tensor[] =>
      split(rows, new Array<number>(numExperts).fill(places), 0);
    const tokenCount = hidden.shape[0] as number;
    const taken = customGradient(gather(hidden, flat), [hidden], (g) => [
      addRows(perExpert(g), tokens, tokenCount),
    ]);
    return {
      rows: { pieces: perExpert(taken), totalRows },
      dropped: constant('int32', [], [0]),
      combine: (outputs) => {
        const weights = unstack(gates).map((row) => reshape(row, [places, 1]));
        const weighted = outputs.map((rows, expert) => multiply(rows, weights[expert]));
        return customGradient(addRows(weighted, tokens, tokenCount), weighted, (g) =>
          perExpert(gather(g, flat)),
        );
      },
      collect: (outputs) => collect(outputs, flat, routing.experts),
    };
  }
}

/** Adds every expert's rows to their tokens: `[places, hiddenSize]` each → `[tokens, hiddenSize]`. */
function addRows(rows: readonly Tensor[], tokens: Tensor, tokenCount: number): Tensor {
  const [numExperts, places] = tokens.shape as [number, number];
  const shape = [tokenCount, rows[0].shape[1]];
  if (tokenCount > gatherLimit * places) {
    const index = broadcastTo(reshape(tokens, [numExperts * places, 1]), [numExperts * places, shape[1]]);
    return scatterAdd(fill(rows[0].dtype, shape, 0), index, concat(rows, 0), 0);
  }
  const place = broadcastTo(subtract(range(places), places), tokens.shape);
  const placeOfToken = unstack(scatterAdd(fill('int64', [numExperts, tokenCount], places), tokens, place, 1));
  const tokenOfPlace = unstack(tokens);
  return rows
    .map((piece, expert) => exchangeRows(piece, placeOfToken[expert], tokenOfPlace[expert], { open: true }))
    .reduce(add);
}

/** Outputs in the order in which `experts` lists each token's, for those who want them one by one. */
function collect(outputs: readonly Tensor[], tokenOfPlace: Tensor, experts: Tensor): Tensor {
  const rows = concat(outputs, 0);
  const [totalRows, hiddenSize] = rows.shape as [number, number];
  const [tokenCount, columns] = experts.shape as [number, number];
  const owner = Int32Array.from({ length: totalRows }, (_, row) =>
    Math.floor((row * outputs.length) / totalRows),
  );
  const expertOfRow = cast(constant('int32', [totalRows, 1], owner), 'int64');
  const listed = equal(gather(experts, tokenOfPlace), expertOfRow);
  const column = sum(where(listed, reshape(range(columns), [1, columns]), 0), 1);
  const counted = multiply(rows, cast(sum(cast(listed, 'float32'), 1, true), rows.dtype));
  const place = reshape(add(multiply(tokenOfPlace, columns), column), [totalRows, 1]);
  const empty = fill(rows.dtype, [tokenCount * columns, hiddenSize], 0);
  const sorted = scatterAdd(empty, broadcastTo(place, rows.shape), counted, 0);
  return reshape(sorted, [tokenCount, columns, hiddenSize]);
}
