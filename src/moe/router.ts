/**
 * First socket: who goes where, and with what weight.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { Module, StateUpdate } from '../nn/index.js';
import type { Dispatch } from './dispatch.js';
import type { AuxiliaryLoss, FeedForwardContext } from './feed-forward.js';

/** A router's decision. */
export interface Routing {
  /** Int64 `[tokens, topK]`: chosen experts, best first; equal scores go to the lowest index. −1 is no choice. */
  readonly experts: Tensor;
  /** Float `[tokens, topK]`: weights of the choices, with a gradient to the router. */
  readonly gates: Tensor;
  /** Float `[tokens, numExperts]`: every expert's share of the router's opinion, summing to 1; read by analyses. */
  readonly probabilities: Tensor;
  readonly losses: readonly AuxiliaryLoss[];
  /** Whether some choices may be −1. Padding needs none of it: dispatches leave it out by the mask. */
  readonly partial?: boolean;
  /** What the experts read instead of the layer's input, where the router rescales it. */
  readonly expertInput?: Tensor;
  /** Replaces the layer's dispatch, where the router has already given out the places. */
  readonly dispatch?: Dispatch;
  /** State that changes after the step without a gradient. */
  readonly updates?: readonly StateUpdate[];
}

/** Gates that are nothing but the chosen `probabilities`, times a factor. */
export interface GateRule {
  /** Whether a token's chosen probabilities are divided by their sum first. */
  readonly normalize: boolean;
  readonly scale: number;
}

/** Chooses `topK` of `numExperts` experts for every token. */
export interface Router {
  readonly numExperts: number;
  /** Choices per token: columns of its decisions. */
  readonly topK: number;
  /** Experts that a token visits on average, where that is not {@link topK}. */
  readonly expectedTopK?: number;
  /** How gates outside training follow from `probabilities`; undefined where something else enters them. */
  readonly gateRule?: GateRule | undefined;
  /** Why the decision about a token may depend on later ones outside training; undefined when it never does. */
  readonly leak?: string | undefined;
  /** Why the router needs a text in one piece; undefined where tokens can come in several passes. */
  readonly wholeText?: string | undefined;
  /** `hidden` is `[tokens, hiddenSize]`. */
  route(hidden: Tensor, context: FeedForwardContext): Routing;
}

/** A router as the registry makes it. */
export type RouterModule = Router & Module;
