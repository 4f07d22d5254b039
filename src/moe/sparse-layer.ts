/**
 * The sparse layer: Router → Dispatch → Experts → Combine.
 * @module
 */
import { cast, reshape, stopGradient, where, greater, type Tensor } from '../graph/index.js';
import { Module } from '../nn/index.js';
import { weightedSum, type Combine } from './combine.js';
import type { Dispatch } from './dispatch.js';
import type { ExpertBank } from './expert-bank.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput, RoutingRecord } from './feed-forward.js';
import { expertLoad } from './losses.js';
import type { Router, Routing } from './router.js';

/** The parts of a {@link SparseLayer}. Router and experts are modules when they own parameters. */
export interface SparseLayerParts {
  readonly router: Router;
  readonly dispatch: Dispatch;
  readonly experts: ExpertBank;
  readonly combine?: Combine;
}

/** A feed-forward layer of which each token sees a few experts. */
export class SparseLayer extends Module implements FeedForward {
  readonly router: Router;
  readonly experts: ExpertBank;
  private readonly dispatch: Dispatch;
  private readonly combine: Combine;

  /** @throws RangeError if router and bank disagree on the number of experts. */
  constructor({ router, dispatch, experts, combine = weightedSum }: SparseLayerParts) {
    super();
    if (router.numExperts !== experts.numExperts) {
      throw new RangeError(
        `the router knows ${router.numExperts} experts but the bank has ${experts.numExperts}`,
      );
    }
    this.router = router;
    this.experts = experts;
    this.dispatch = dispatch;
    this.combine = combine;
  }

  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput {
    const routing: Routing = context.routingOverride
      ? { ...context.routingOverride, losses: [] }
      : this.router.route(hidden, context);
    const dispatched = this.dispatch.dispatch(hidden, routing, this.experts.numExperts, context);
    const outputs = this.experts.forward(dispatched.rows, context);
    const output = this.combine(dispatched.collect(outputs), routing.gates);
    return { output, record: this.record(routing, dispatched.dropped, context), losses: routing.losses };
  }

  private record(
    { experts, gates, losses }: Routing,
    dropped: Tensor,
    context: FeedForwardContext,
  ): RoutingRecord {
    const { tokenMask: mask, layerIndex } = context;
    const { numExperts } = this.experts;
    const chosen = cast(experts, 'int32');
    return {
      layerIndex,
      numExperts,
      experts: mask ? where(reshape(greater(mask, 0), [-1, 1]), chosen, -1) : chosen,
      gates: stopGradient(gates),
      load: expertLoad(experts, numExperts, mask),
      dropped,
      losses,
    };
  }
}
