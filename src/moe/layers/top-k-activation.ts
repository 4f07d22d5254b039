/**
 * A dense feed-forward network of which each token keeps the largest hidden activations only (σ-MoE, arXiv 2310.10837
 * §3.1).
 * @module
 */
import { z } from 'zod';
import {
  cast,
  greaterEqual,
  multiply,
  slice,
  sqrt,
  square,
  stopGradient,
  sum,
  topK as largest,
  type Tensor,
} from '../../graph/index.js';
import { Module, weightInitializer } from '../../nn/index.js';
import { DenseFeedForward } from '../dense.js';
import type { FeedForward, FeedForwardContext, FeedForwardOutput, TokenCost } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { activationSchema, placement, rate, size } from '../options.js';
import type { LayerSizes } from '../sizes.js';

const schema = z.strictObject({
  kind: z.literal('topKActivation'),
  ...placement,
  /** Hidden activations that a token keeps. */
  topK: size,
  /** Width of the layer; that of the dense layers when absent. */
  intermediateSize: size.optional(),
  activation: activationSchema.default('relu'),
  /** On the hidden activation, before the choice; that of the dense layers when absent. */
  dropout: rate.optional(),
  /** The model's own when absent; the paper has biases. */
  bias: z.boolean().optional(),
  /** Choose by `α_i ‖v_i‖`, what an activation adds to the output, instead of by `α_i`. */
  byValueNorm: z.boolean().default(false),
});

/** Options of a layer of top-K activations. */
export type TopKActivationOptions = z.infer<typeof schema>;

/**
 * `y = W_down top_K(dropout(f(W_up x + b))) + b`. All that equal the K-th largest are kept, so a token with fewer than
 * K positive ReLUs loses nothing. The choice has no gradient: kept activations pass theirs, the others get 0.
 */
export class TopKActivation extends Module implements FeedForward {
  readonly network: DenseFeedForward;
  private readonly intermediateSize: number;

  /** @throws RangeError if there are fewer activations than are to be kept. */
  constructor(
    private readonly options: TopKActivationOptions,
    layer: LayerSizes,
  ) {
    super();
    const { activation, topK, byValueNorm, bias = layer.bias } = options;
    const { dropout = layer.activationDropout ?? layer.dropout } = options;
    this.intermediateSize = options.intermediateSize ?? layer.intermediateSize;
    if (topK > this.intermediateSize) {
      throw new RangeError(
        `topK ${topK} is more than intermediateSize ${this.intermediateSize}; choose 1 … ${this.intermediateSize}`,
      );
    }
    this.network = new DenseFeedForward(
      {
        hiddenSize: layer.hiddenSize,
        intermediateSize: this.intermediateSize,
        activation,
        dropout,
        bias,
        select: (inner, down) => keepLargest(inner, topK, byValueNorm ? down : undefined),
      },
      weightInitializer(layer.initialization, layer.hiddenSize),
      weightInitializer(layer.outputInitialization, this.intermediateSize),
    );
  }

  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput {
    return this.network.forward(hidden, context);
  }

  /** What the method needs: `topK` of the value vectors. The product here runs over the zeros as well. */
  cost(): TokenCost {
    const { parameters, flops } = this.network.cost();
    const idle = this.network.down.weight.size * (1 - this.options.topK / this.intermediateSize);
    return { parameters: parameters - idle, flops: flops - 2 * idle };
  }
}

/**
 * @param inner `[tokens, intermediateSize]`
 * @param values `[hiddenSize, intermediateSize]`, where the length of a value vector counts
 */
function keepLargest(inner: Tensor, topK: number, values: Tensor | undefined): Tensor {
  const fixed = stopGradient(inner);
  const criterion = values ? multiply(fixed, sqrt(sum(square(stopGradient(values)), 0))) : fixed;
  const threshold = slice(largest(criterion, topK).values, 1, topK - 1, topK);
  return multiply(inner, cast(greaterEqual(criterion, threshold), inner.dtype));
}

/** `topKActivation` in a recipe. */
export const topKActivation: Kind<typeof schema, LayerSizes, FeedForward & Module> = {
  schema,
  create: (options, layer) => new TopKActivation(options, layer),
};
