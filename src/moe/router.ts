/**
 * First socket: who goes where, and with what weight.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { AuxiliaryLoss, FeedForwardContext } from './feed-forward.js';

/** A router's decision. */
export interface Routing {
  /** Int64 `[tokens, topK]`: chosen experts, best first; equal scores go to the lowest index. */
  readonly experts: Tensor;
  /** Float `[tokens, topK]`: weights of the choices, with a gradient to the router. */
  readonly gates: Tensor;
  readonly losses: readonly AuxiliaryLoss[];
}

/** Chooses `topK` of `numExperts` experts for every token. */
export interface Router {
  readonly numExperts: number;
  readonly topK: number;
  /** `hidden` is `[tokens, hiddenSize]`. */
  route(hidden: Tensor, context: FeedForwardContext): Routing;
}
