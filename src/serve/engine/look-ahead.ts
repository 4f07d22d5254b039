/**
 * A guess at the next layer's decision, made by its own router from this layer's input.
 * @module
 */
import { cast, type Tensor } from '../../graph/index.js';
import { AdaptiveClusteringRouter, chosenShares, type FeedForwardContext } from '../../moe/index.js';
import type { ExpertRequest } from '../../nn/index.js';
import type { LayerOfExperts } from './layers-of-experts.js';

/**
 * What the router of the next layer chooses for the rows that this layer's router read: states change little from one
 * block to the next (Eliseev and Mazur, arXiv 2312.17238 §3.2).
 * @returns int32 `[tokens, topK of the next layer]`; undefined where no layer of the same stack follows, or its router
 *   reads more than a state.
 */
export function lookAhead(
  layers: readonly LayerOfExperts[],
  layer: number,
  { hidden, experts, gates, context, site }: ExpertRequest,
): Tensor | undefined {
  const [here, next] = [layers[layer], layers.at(layer + 1)];
  if (!next?.sparse || stackOf(next) !== stackOf(here)) return undefined;
  const { router } = next.sparse;
  if (router instanceof AdaptiveClusteringRouter) return undefined;
  const probabilities = chosenShares(experts, gates, here.bank.numExperts, hidden.dtype);
  const surroundings = context as FeedForwardContext;
  const routing = router.route(hidden, {
    ...surroundings,
    site: `${site}.ahead`,
    previousRouting: { experts, gates, probabilities, losses: [], partial: true },
  });
  return cast(routing.experts, 'int32');
}

/** `encoder.`, `decoder.` or nothing. */
function stackOf({ name }: LayerOfExperts): string {
  return name.slice(0, name.indexOf('blocks.'));
}
