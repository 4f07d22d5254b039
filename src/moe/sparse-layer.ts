/**
 * The sparse layer: Router → Dispatch → Experts → Combine.
 * @module
 */
import {
  add,
  cast,
  constant,
  greater,
  multiply,
  reshape,
  sigmoid,
  stopGradient,
  where,
  type Tensor,
} from '../graph/index.js';
import { Module, type Linear } from '../nn/index.js';
import { weightedSum, type Combine } from './combine.js';
import { addCosts, moduleCost } from './cost.js';
import type { Dispatch } from './dispatch.js';
import { DroplessDispatch } from './dispatch/dropless.js';
import type { ExpertBank } from './expert-bank.js';
import type {
  FeedForward,
  FeedForwardContext,
  FeedForwardOutput,
  RoutingRecord,
  TokenCost,
} from './feed-forward.js';
import { chosenShares, expertLoad } from './losses.js';
import type { Router, Routing } from './router.js';

/** The parts of a {@link SparseLayer}. Router and experts are modules when they own parameters. */
export interface SparseLayerParts {
  readonly router: Router;
  readonly dispatch: Dispatch;
  readonly experts: ExpertBank;
  readonly combine?: Combine;
  /** Experts that every token visits beside the chosen ones (DeepSeekMoE, arXiv 2401.06066 §3.2). */
  readonly shared?: FeedForward & Module;
  /** To one number: the shared experts' output is weighed by its sigmoid. */
  readonly sharedGate?: Linear;
}

/** What a token's experts made of it, before it is finished. */
interface Visit {
  /** `[tokens, width of the experts' outputs]` */
  readonly combined: Tensor;
  /** Int32 scalar: choices that found their expert full. */
  readonly dropped: Tensor;
}

/** A feed-forward layer of which each token sees a few experts. */
export class SparseLayer extends Module implements FeedForward {
  readonly router: Router;
  readonly experts: ExpertBank;
  readonly shared: (FeedForward & Module) | undefined;
  readonly sharedGate: Linear | undefined;
  private readonly dispatch: Dispatch;
  private readonly combine: Combine;

  /** @throws RangeError if router and bank disagree on the number of experts. */
  constructor({ router, dispatch, experts, combine = weightedSum, shared, sharedGate }: SparseLayerParts) {
    super();
    if (router.numExperts !== experts.numExperts) {
      throw new RangeError(
        `the router knows ${router.numExperts} experts but the bank has ${experts.numExperts}`,
      );
    }
    this.router = router;
    this.experts = experts;
    this.shared = shared;
    this.sharedGate = sharedGate;
    this.dispatch = dispatch;
    this.combine = combine;
  }

  get leak(): string | undefined {
    const { router, dispatch, experts } = this;
    return router.leak ?? dispatch.leak?.(router.topK, experts.numExperts);
  }

  get wholeText(): string | undefined {
    return this.router.wholeText;
  }

  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput {
    const { numExperts } = this.experts;
    const routing = this.decide(hidden, context);
    const { expertInput = hidden, updates = [] } = routing;
    const prepared = this.experts.prepare?.(expertInput) ?? expertInput;
    const { combined, dropped } =
      this.visitElsewhere(hidden, prepared, routing, context) ?? this.visit(prepared, routing, context);
    const chosen = this.experts.finish?.(combined) ?? combined;
    const common = this.sharedOutput(hidden, context);
    return {
      output: common ? add(chosen, common) : chosen,
      records: [routingRecord(routing, numExperts, dropped, context)],
      routing,
      losses: routing.losses,
      updates,
    };
  }

  private decide(hidden: Tensor, context: FeedForwardContext): Routing {
    const { site, layerIndex, routingOverride } = context;
    const override =
      routingOverride ?? context.experts?.route?.({ site, layerIndex, bank: this.experts, hidden });
    return override
      ? overridden(override, this.experts.numExperts, hidden)
      : this.router.route(hidden, context);
  }

  private visit(prepared: Tensor, routing: Routing, context: FeedForwardContext): Visit {
    // Without places nobody is dropped, and experts that nobody chose are not read.
    const own = context.serveAll ? new DroplessDispatch() : this.dispatch;
    const { dispatch = own, gates } = routing;
    const { rows, dropped, ...dispatched } = dispatch.dispatch(
      prepared,
      routing,
      this.experts.numExperts,
      context,
    );
    const outputs = this.experts.forward(rows, context);
    const combined = dispatched.combine?.(outputs) ?? this.combine(dispatched.collect(outputs), gates);
    return { combined, dropped };
  }

  private visitElsewhere(
    hidden: Tensor,
    rows: Tensor,
    { experts, gates }: Routing,
    context: FeedForwardContext,
  ): Visit | undefined {
    if (!context.experts) return undefined;
    if (this.combine !== weightedSum)
      throw new Error(`layer ${context.layerIndex}: experts elsewhere give weighted sums, nothing else`);
    const { site, layerIndex, tokenMask } = context;
    const request = {
      site,
      layerIndex,
      bank: this.experts,
      rows,
      experts,
      gates,
      tokenMask,
      hidden,
      context,
    };
    return { combined: context.experts.combine(request), dropped: constant('int32', [], [0]) };
  }

  private sharedOutput(hidden: Tensor, context: FeedForwardContext): Tensor | undefined {
    const output = this.shared?.forward(hidden, { ...context, site: `${context.site}.shared` }).output;
    return output && this.sharedGate ? multiply(output, sigmoid(this.sharedGate.forward(hidden))) : output;
  }

  cost(): TokenCost {
    const { router, experts, shared, sharedGate } = this;
    return addCosts(
      [router instanceof Module ? moduleCost(router) : { parameters: 0, flops: 0 }, 1],
      [experts.costPerRow, router.expectedTopK ?? router.topK],
      [experts.sharedCost ?? { parameters: 0, flops: 0 }, 1],
      [shared?.cost() ?? { parameters: 0, flops: 0 }, 1],
      [sharedGate ? moduleCost(sharedGate) : { parameters: 0, flops: 0 }, 1],
    );
  }
}

/** What a decision and its dispatch look like to those who study them. */
export function routingRecord(
  { experts, gates, probabilities, losses }: Routing,
  numExperts: number,
  dropped: Tensor,
  { tokenMask: mask, layerIndex }: FeedForwardContext,
  { name = String(layerIndex), firstExpert = 0 }: Partial<Pick<RoutingRecord, 'name' | 'firstExpert'>> = {},
): RoutingRecord {
  const chosen = cast(experts, 'int32');
  return {
    name,
    layerIndex,
    numExperts,
    firstExpert,
    topK: experts.shape[1] as number,
    experts: mask ? where(reshape(greater(mask, 0), [-1, 1]), chosen, -1) : chosen,
    gates: stopGradient(gates),
    probabilities: stopGradient(probabilities),
    load: expertLoad(experts, numExperts, mask),
    dropped,
    losses,
  };
}

function overridden(
  { experts, gates }: NonNullable<FeedForwardContext['routingOverride']>,
  numExperts: number,
  { dtype }: Tensor,
): Routing {
  const probabilities = chosenShares(experts, gates, numExperts, dtype);
  return { experts, gates, probabilities, losses: [], partial: true };
}
