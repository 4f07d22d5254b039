/**
 * Second socket: brings every token's row to its experts, and the experts' rows back.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { ExpertRows } from './expert-bank.js';
import type { FeedForwardContext } from './feed-forward.js';
import type { Routing } from './router.js';

/** Tokens sorted by expert, with the way back. */
export interface Dispatched {
  readonly rows: ExpertRows;
  /** Int32 scalar: choices left without a place. */
  readonly dropped: Tensor;
  /**
   * Experts' outputs, in the order of the choices: `[tokens, topK, hiddenSize]`, or as wide as they are; zeros where a
   * choice was dropped.
   */
  collect(outputs: readonly Tensor[]): Tensor;
  /** Replaces `combine(collect(outputs), gates)` where the outputs are not ordered by choices: `[tokens, hiddenSize]`. */
  combine?(outputs: readonly Tensor[]): Tensor;
}

/** Strategy of {@link Dispatched}. */
export interface Dispatch {
  /** Why, outside training, a token's output may depend on later ones; undefined when it never does. */
  leak?(topK: number, numExperts: number): string | undefined;
  /** `hidden` is `[tokens, hiddenSize]`. */
  dispatch(hidden: Tensor, routing: Routing, numExperts: number, context: FeedForwardContext): Dispatched;
}
