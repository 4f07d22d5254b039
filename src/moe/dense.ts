/**
 * The dense feed-forward network: the baseline in every comparison, and one expert written large.
 * @module
 */
import { multiply, type Tensor } from '../graph/index.js';
import { dropout, Linear, Module, type Initializer } from '../nn/index.js';
import { activations, type ActivationName } from './activations.js';
import { moduleCost } from './cost.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput, TokenCost } from './feed-forward.js';

/** Settings of {@link DenseFeedForward}. */
export interface DenseOptions {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  /** On the hidden activation, as T5 does. */
  readonly dropout?: number;
  readonly bias?: boolean;
  /** What is left of the hidden activation after dropout: `[tokens, intermediateSize]`, given the output's weight. */
  readonly select?: (inner: Tensor, down: Tensor) => Tensor;
}

/** `y = W_down f(W_up x)`, or `W_down (f(W_gate x) · W_up x)` for gated activations. */
export class DenseFeedForward extends Module implements FeedForward {
  readonly gate: Linear | undefined;
  readonly up: Linear;
  readonly down: Linear;

  /** @param down initializer of the output projection, which some recipes scale by depth. */
  constructor(
    private readonly options: DenseOptions,
    up: Initializer,
    down: Initializer,
  ) {
    super();
    const { hiddenSize, intermediateSize, activation, bias = false } = options;
    this.gate = activations[activation].gated
      ? new Linear(hiddenSize, intermediateSize, up, { bias })
      : undefined;
    this.up = new Linear(hiddenSize, intermediateSize, up, { bias });
    this.down = new Linear(intermediateSize, hiddenSize, down, { bias });
  }

  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput {
    const { apply } = activations[this.options.activation];
    const inner = this.gate
      ? multiply(apply(this.gate.forward(hidden)), this.up.forward(hidden))
      : apply(this.up.forward(hidden));
    const dropped = dropout(inner, this.options.dropout ?? 0, `${context.site}.activation`, context);
    const selected = this.options.select?.(dropped, this.down.weight.tensor) ?? dropped;
    return { output: this.down.forward(selected), records: [], losses: [] };
  }

  cost(): TokenCost {
    return moduleCost(this);
  }
}
