/**
 * Experts that are ordinary two-layer networks: ReLU, GELU, or gated (SwiGLU).
 * @module
 */
import { z } from 'zod';
import { add, cast, greaterEqual, matmul, multiply, split, unstack, type Tensor } from '../../graph/index.js';
import {
  biasInitializer,
  Module,
  Parameter,
  weightInitializer,
  zeros,
  type Initializer,
} from '../../nn/index.js';
import { activations, type ActivationName } from '../activations.js';
import type { ExpertBank, ExpertRows, ExpertWeights } from '../expert-bank.js';
import type { FeedForwardContext, TokenCost } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { activationSchema, rate } from '../options.js';
import { depthScaledNormal } from '../sigma-moe-initialization.js';
import type { SparseLayerSizes } from '../sizes.js';

/** Settings of {@link FeedForwardBank}. */
export interface FeedForwardBankOptions {
  readonly numExperts: number;
  readonly hiddenSize: number;
  /** Width inside one expert. */
  readonly intermediateSize: number;
  readonly activation: ActivationName;
  /** Dropout on the experts' hidden activation only (Switch Transformer §4.1: 0.4 when fine-tuning). */
  readonly expertDropout?: number;
  readonly bias?: boolean;
}

/**
 * `E_e(x) = W_down,e f(W_up,e x)` for every expert e. Each weight is one stored parameter `[numExperts, in, out]`,
 * read expert by expert as views: one matrix product per expert on exactly its rows.
 */
export class FeedForwardBank extends Module implements ExpertBank {
  readonly numExperts: number;
  readonly gate: Parameter | undefined;
  readonly up: Parameter;
  readonly down: Parameter;
  readonly upBias: Parameter | undefined;
  readonly downBias: Parameter | undefined;

  constructor(
    private readonly options: FeedForwardBankOptions,
    up: Initializer,
    down: Initializer,
    biases: { readonly up: Initializer; readonly down: Initializer } = { up: zeros, down: zeros },
  ) {
    super();
    const { numExperts, hiddenSize, intermediateSize, activation, bias = false } = options;
    this.numExperts = numExperts;
    this.gate = activations[activation].gated
      ? new Parameter([numExperts, hiddenSize, intermediateSize], up)
      : undefined;
    this.up = new Parameter([numExperts, hiddenSize, intermediateSize], up);
    this.down = new Parameter([numExperts, intermediateSize, hiddenSize], down);
    this.upBias = bias ? new Parameter([numExperts, intermediateSize], biases.up, false) : undefined;
    this.downBias = bias ? new Parameter([numExperts, hiddenSize], biases.down, false) : undefined;
  }

  get costPerRow(): TokenCost {
    const { numExperts } = this;
    const matrices = [this.gate, this.up, this.down].reduce((sum, weight) => sum + (weight?.size ?? 0), 0);
    const biases = (this.upBias?.size ?? 0) + (this.downBias?.size ?? 0);
    return { parameters: (matrices + biases) / numExperts, flops: (2 * matrices) / numExperts };
  }

  columns(columns: Tensor, weights: ExpertWeights): Tensor {
    const { apply } = activations[this.options.activation];
    const biased = (product: Tensor, bias: Parameter | undefined, name: string): Tensor =>
      bias ? add(product, weights.bias(name)) : product;
    const raised = biased(weights.project('up', columns), this.upBias, 'upBias');
    const inner = this.gate ? multiply(apply(weights.project('gate', columns)), raised) : apply(raised);
    return biased(weights.project('down', inner), this.downBias, 'downBias');
  }

  /** What the second matrix of each expert reads, `[rows, intermediateSize]`. */
  innerRows(pieces: readonly Tensor[]): readonly Tensor[] {
    const { apply } = activations[this.options.activation];
    const [gate, up, upBias] = [this.gate, this.up, this.upBias].map(unstacked);
    return pieces.map((piece, expert) => {
      const projected = matmul(piece, up![expert]);
      const raised = upBias ? add(projected, upBias[expert]) : projected;
      return gate ? multiply(apply(matmul(piece, gate[expert])), raised) : apply(raised);
    });
  }

  forward(rows: ExpertRows, context: FeedForwardContext): readonly Tensor[] {
    const [down, downBias] = [this.down, this.downBias].map(unstacked);
    return this.dropHidden(this.innerRows(rows.pieces), rows, context).map((hidden, expert) => {
      const lowered = matmul(hidden, down![expert]);
      return downBias ? add(lowered, downBias[expert]) : lowered;
    });
  }

  /** One noise input for all experts, cut like their rows. */
  private dropHidden(
    inner: readonly Tensor[],
    rows: ExpertRows,
    context: FeedForwardContext,
  ): readonly Tensor[] {
    const rate = this.options.expertDropout ?? 0;
    if (!context.training || rate === 0) return inner;
    const { dtype } = inner[0];
    const shape = [rows.totalRows, this.options.intermediateSize];
    const noise = context.noise.request(`${context.site}.experts`, 'uniform', dtype, shape);
    const sizes = inner.map((piece) => piece.shape[0]);
    const masks = rows.spare
      ? split(noise, [...sizes, rows.spare.size], 0, rows.spare.counts)
      : split(noise, sizes, 0, rows.counts);
    const scale = 1 / (1 - rate);
    return inner.map((piece, i) =>
      multiply(piece, multiply(cast(greaterEqual(masks[i], rate), dtype), scale)),
    );
  }
}

/** One tensor for each expert. */
const unstacked = (parameter: Parameter | undefined): readonly Tensor[] | undefined =>
  parameter && unstack(parameter.tensor);

const schema = z.strictObject({
  kind: z.literal('feedForward'),
  /** The model's own when absent. */
  activation: activationSchema.optional(),
  expertDropout: rate.default(0),
  /** The model's own when absent. */
  bias: z.boolean().optional(),
  /**
   * `model`: the model's own rule, each expert for itself. `sigmaMoe` (arXiv 2310.10837 §5): up `N(0, c²/hiddenSize)`,
   * down `N(0, c²/(numExperts · intermediateSize))`, c = √(2 / numLayers): all experts together start as the one dense
   * network that they stand for. `sigmaMoeStandard`, its ablation: down `N(0, c²/intermediateSize)`.
   */
  initialization: z.enum(['model', 'sigmaMoe', 'sigmaMoeStandard']).default('model'),
});

/** `feedForward` in a recipe. */
export const feedForward: Kind<typeof schema, SparseLayerSizes, ExpertBank & Module> = {
  schema,
  create: ({ activation, bias, expertDropout, initialization }, sizes) => {
    const { numExperts, numLayers, hiddenSize, intermediateSize } = sizes;
    const options = {
      ...sizes,
      expertDropout,
      activation: activation ?? sizes.activation,
      bias: bias ?? sizes.bias,
    };
    if (initialization === 'model') {
      return new FeedForwardBank(
        options,
        weightInitializer(sizes.initialization, hiddenSize),
        weightInitializer(sizes.outputInitialization, intermediateSize),
        {
          up: biasInitializer(sizes.initialization, hiddenSize),
          down: biasInitializer(sizes.outputInitialization, intermediateSize),
        },
      );
    }
    const width = initialization === 'sigmaMoe' ? numExperts * intermediateSize : intermediateSize;
    return new FeedForwardBank(
      options,
      depthScaledNormal(numLayers, hiddenSize),
      depthScaledNormal(numLayers, width),
    );
  },
};
