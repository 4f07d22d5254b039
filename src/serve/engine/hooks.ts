/**
 * Where others look into a pass and act on it: traces, prefetching, and predictions in place of routers.
 * @module
 */
import type { Buffers } from '../../runtime/index.js';

/** What one router decided in one pass. The arrays are overwritten by later passes. */
export interface RoutingDecision {
  /** Counts the passes of an engine, from 0. */
  readonly pass: number;
  /** Index of the layer in `ExpertStore.layers`. */
  readonly layer: number;
  /** Rows of the pass: `batch · time`. */
  readonly tokens: number;
  readonly topK: number;
  /** `[tokens, topK]`: chosen experts, best first; −1 for padding and for no choice. */
  readonly experts: Int32Array;
  /** `[tokens, topK]` */
  readonly gates: Float32Array;
  /** Distinct experts among them, ascending. */
  readonly distinct: readonly number[];
  /**
   * `[tokens, topK of the next layer]`: what the next layer's router makes of this layer's input, a guess at what it will
   * decide; only for a {@link Prefetcher} with `lookAhead`, and not on the last layer. Padding is not marked.
   */
  readonly ahead?: Int32Array;
}

/** Sees every decision as soon as it has fallen. */
export interface RoutingObserver {
  observe(decision: RoutingDecision): void;
}

/** A pass that is about to begin. */
export interface PassStart {
  readonly pass: number;
  /** Name under which the pass was traced. */
  readonly name: string;
  /** What it is fed, by name: `tokens`, `source` … */
  readonly feeds: Buffers;
  /** Shapes of all feeds that the pass may have, by name. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
}

/** Tells a store what to read ahead. It only loads: what is computed does not change. */
export interface Prefetcher {
  /** Whether passes compute `RoutingDecision.ahead`. */
  readonly lookAhead?: boolean;
  /** Called before anything is computed. The pass waits for a promise. */
  begin?(start: PassStart): void | Promise<void>;
  /** Called when a layer has decided, after its own experts were announced to the store and before they are computed. */
  decided?(decision: RoutingDecision): void;
}

/** Is told of texts before the passes that read them whole. */
export interface TextListener {
  /** @param request to which they belong; none of them is read when it is over. */
  expect(texts: readonly (readonly number[])[], request: { readonly over: boolean }): void;
}

/** A decision for all rows of a pass. */
export interface SuppliedRouting {
  /** `[tokens, topK]`; −1 is no choice. */
  readonly experts: Int32Array;
  /** `[tokens, topK]` */
  readonly gates: Float32Array;
}

/** Replaces the routers: the pass computes with these decisions instead of their own. */
export interface RoutingSource {
  /** Experts a token of each layer, by its index in `ExpertStore.layers`. */
  readonly topK: readonly number[];
  /**
   * Decisions of all layers for a pass; called before anything is computed.
   * @param layers those that the pass has, by their index; their decisions are wanted in this order.
   */
  decide(
    start: PassStart,
    layers: readonly number[],
  ): readonly SuppliedRouting[] | Promise<readonly SuppliedRouting[]>;
}
