/**
 * Experts that are computed outside the traced program: the graph ends at a router and goes on with what its experts made.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { TraceContext } from './context.js';

/** Rows and where they go, handed over by a layer in place of computing its experts. */
export interface ExpertRequest {
  /** Unique in the program: the layer's site. */
  readonly site: string;
  /** Which block of its stack the layer is, from 0. */
  readonly layerIndex: number;
  /** The experts, told apart by identity: the `ExpertBank` of the layer. */
  readonly bank: object;
  /** Float `[tokens, width]`: what the experts read. */
  readonly rows: Tensor;
  /** Int64 `[tokens, topK]`: chosen experts; −1 is no choice. */
  readonly experts: Tensor;
  /** Float `[tokens, topK]` */
  readonly gates: Tensor;
  /** Float `[tokens]`: 1 for real tokens, 0 for padding, whose outputs are zeros. Everything is real when absent. */
  readonly tokenMask?: Tensor | undefined;
  /** `[tokens, hiddenSize]`: what the layer's router read. */
  readonly hidden: Tensor;
  /** Surroundings of the layer, as its router saw them. */
  readonly context: TraceContext;
}

/** A layer that is about to decide. */
export type RoutingRequest = Pick<ExpertRequest, 'site' | 'layerIndex' | 'bank' | 'hidden'>;

/** Takes over the experts of every layer that is traced with it. */
export interface ExpertsElsewhere {
  /** A decision made elsewhere, in place of the layer's router; undefined where the router decides. */
  route?(request: RoutingRequest): { readonly experts: Tensor; readonly gates: Tensor } | undefined;
  /**
   * `Σ_k gates[t, k] · expert_{experts[t, k]}(rows[t])`, as a tensor that is fed: `[tokens, width]` of the experts'
   * outputs. Every choice is served.
   */
  combine(request: ExpertRequest): Tensor;
}
