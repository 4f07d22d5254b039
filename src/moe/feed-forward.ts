/**
 * The one interface that a Transformer block knows: what stands where the dense feed-forward network stood.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import type { StateUpdate, TraceContext } from '../nn/index.js';
import type { Routing } from './router.js';

/** What a feed-forward layer is told about its surroundings. */
export interface FeedForwardContext extends TraceContext {
  /** Which block of the model this is, from 0. */
  readonly layerIndex: number;
  /** Name of the layer's noise and run-time sizes, unique in the program. */
  readonly site: string;
  /** Sequences in the batch; tokens are laid out sequence after sequence. */
  readonly batchSize: number;
  /** Whether tokens of a sequence must not see those after them (decoders); encoders see both ways. */
  readonly causal: boolean;
  /** Float `[tokens]`: 1 for real tokens, 0 for padding. Everything is real when absent. */
  readonly tokenMask?: Tensor | undefined;
  /** Integers `[tokens]`: where tokens stand in their texts; 0 … within each sequence when absent. */
  readonly positions?: Tensor | undefined;
  /**
   * Every choice finds a place, whatever the layer's dispatch: passes that go on from a cache, where nobody counts who
   * came before. A token by itself never overflows an expert.
   */
  readonly serveAll?: boolean;
  /** Int32 `[tokens]`: token ids, for routers that look at them. */
  readonly tokenIds?: Tensor | undefined;
  /** Int32 `[tokens]`: language ids, for routers that look at them. */
  readonly languageIds?: Tensor | undefined;
  /** What the previous sparse layer of the model chose, if there was one. */
  readonly previousRecord?: RoutingRecord | undefined;
  /** The same decision with its gradient, for layers that repeat it. */
  readonly previousRouting?: Routing | undefined;
  /** Replaces the router's decision (a predictor that ran ahead). */
  readonly routingOverride?: { readonly experts: Tensor; readonly gates: Tensor } | undefined;
}

/** A term of the training loss, already averaged over tokens; the total adds `coefficient · value`. */
export interface AuxiliaryLoss {
  readonly name: string;
  readonly coefficient: number;
  /** Scalar tensor. */
  readonly value: Tensor;
}

/** What a sparse layer did, as tensors that a program can fetch. */
export interface RoutingRecord {
  /** `layerIndex`, or `layerIndex.stratum` where one layer routes several times. */
  readonly name: string;
  readonly layerIndex: number;
  readonly numExperts: number;
  /** First expert that can be chosen here: not 0 in later strata, which do not see the experts of those before. */
  readonly firstExpert: number;
  /** Experts per token; tokens with fewer have −1 in their last places. */
  readonly topK: number;
  /** Int32 `[tokens, topK]`: chosen experts, best first; −1 for padding. */
  readonly experts: Tensor;
  /**
   * Float `[tokens, topK]`: weight of each choice as the router gave it, whether or not it was dropped; 0 for −1.
   * Stratified layers, whose gates weigh what was kept, have 0 for dropped choices as well.
   */
  readonly gates: Tensor;
  /**
   * Float `[tokens, numExperts]`: what the router thought of every expert, as a distribution; zeros for tokens that do
   * not come to a stratum.
   */
  readonly probabilities: Tensor;
  /** Int32 `[numExperts]`: choices per expert over real tokens, before any is dropped. */
  readonly load: Tensor;
  /** Int32 scalar: choices that found their expert full. */
  readonly dropped: Tensor;
  /** The router's auxiliary losses, before their coefficients. */
  readonly losses: readonly AuxiliaryLoss[];
}

/** Result of a feed-forward layer. */
export interface FeedForwardOutput {
  /** `[tokens, hiddenSize]` */
  readonly output: Tensor;
  /** One for each time that the layer routed; none on layers without a router. */
  readonly records: readonly RoutingRecord[];
  /** The last decision of the layer, for layers that repeat or read it. */
  readonly routing?: Routing;
  readonly losses: readonly AuxiliaryLoss[];
  /** State that changes after the step without a gradient. */
  readonly updates?: readonly StateUpdate[];
}

/** What one token's forward pass costs on average. */
export interface TokenCost {
  /** Parameters that it multiplies with or looks up. */
  readonly parameters: number;
  /** Floating-point operations, two per multiplied weight; elementwise work is not counted. */
  readonly flops: number;
}

/** Dense or sparse, with or without a router of its own. */
export interface FeedForward {
  /** True where the layer normalises its input and adds its output to the residual stream itself. */
  readonly ownsResidual?: boolean;
  /** Why what the layer says about a token may depend on later ones outside training; undefined when it never does. */
  readonly leak?: string | undefined;
  /** Why the layer needs a text in one piece, so that no pass can go on from a cache; undefined where it does not. */
  readonly wholeText?: string | undefined;
  /** `[tokens, hiddenSize]` → output of the same shape, with records and losses */
  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput;
  cost(): TokenCost;
}
