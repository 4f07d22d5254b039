/**
 * The softmax router of Switch Transformer (top-1) and GShard-style MoE (top-k). arXiv 2101.03961 §2.1–2.4.
 * @module
 */
import { z } from 'zod';
import { add, divide, multiply, softmax, sum, topK as largest, type Tensor } from '../../graph/index.js';
import { Linear, Module, type Initializer } from '../../nn/index.js';
import type { AuxiliaryLoss, FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { balanceLoss, routerZLoss } from '../losses.js';
import { coefficient, group, rate } from '../options.js';
import type { Router, RouterModule, Routing } from '../router.js';
import { classifierInitializer, type SparseLayerSizes } from '../sizes.js';

/** Settings of {@link SoftmaxTopKRouter}. */
export interface SoftmaxTopKOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Divide the chosen probabilities by their sum. Switch does not: its gate is the raw probability. */
  readonly normalizeGates?: boolean;
  /** Add a bias to the logits, as the Omni-router does; Switch has none. */
  readonly bias?: boolean;
  /** σ of Gaussian noise on the logits in training (a port of Omni-router; arXiv 2507.05724). */
  readonly logitNoise?: number;
  /** ε of the multiplicative noise U(1−ε, 1+ε) on the router's input in training; experts see the clean input. */
  readonly jitter?: number;
  /** α of the balance loss; Switch uses 1e-2. */
  readonly balanceCoefficient?: number;
  /** Coefficient of the router z-loss; ST-MoE uses 1e-3. */
  readonly zLossCoefficient?: number;
  /** Tokens that are balanced together: the whole batch, or each sequence by itself. */
  readonly group?: 'batch' | 'sequence';
}

/** `p = softmax(W_r x)`; the k most probable experts, weighted by their probabilities. */
export class SoftmaxTopKRouter extends Module implements Router {
  readonly classifier: Linear;

  constructor(
    private readonly options: SoftmaxTopKOptions,
    initializer: Initializer,
  ) {
    super();
    this.classifier = new Linear(options.hiddenSize, options.numExperts, initializer, {
      bias: options.bias ?? false,
    });
  }

  get numExperts(): number {
    return this.options.numExperts;
  }

  get topK(): number {
    return this.options.topK;
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { topK, normalizeGates = false } = this.options;
    const logits = this.addNoise(this.classifier.forward(this.addJitter(hidden, context)), context);
    const probabilities = softmax(logits);
    const { values, indices: experts } = largest(probabilities, topK);
    const gates = normalizeGates ? divide(values, add(sum(values, 1, true), 1e-9)) : values;
    return { experts, gates, probabilities, losses: this.losses(logits, probabilities, experts, context) };
  }

  private addJitter(hidden: Tensor, context: FeedForwardContext): Tensor {
    const { jitter = 0 } = this.options;
    if (!context.training || jitter === 0) return hidden;
    const noise = context.noise.request(
      `${context.site}.router`,
      'uniform',
      hidden.dtype,
      hidden.shape as number[],
    );
    return multiply(hidden, add(multiply(noise, 2 * jitter), 1 - jitter));
  }

  private addNoise(logits: Tensor, context: FeedForwardContext): Tensor {
    const { logitNoise = 0 } = this.options;
    if (!context.training || logitNoise === 0) return logits;
    const site = `${context.site}.routerLogits`;
    const noise = context.noise.request(site, 'normal', logits.dtype, logits.shape as number[]);
    return add(logits, multiply(noise, logitNoise));
  }

  private losses(
    logits: Tensor,
    probabilities: Tensor,
    experts: Tensor,
    context: FeedForwardContext,
  ): AuxiliaryLoss[] {
    const { balanceCoefficient = 0, zLossCoefficient = 0, group = 'batch' } = this.options;
    const groups = group === 'sequence' ? context.batchSize : 1;
    return [
      {
        name: 'balance',
        coefficient: balanceCoefficient,
        value: balanceLoss(probabilities, experts, context.tokenMask, groups),
      },
      { name: 'z', coefficient: zLossCoefficient, value: routerZLoss(logits, context.tokenMask) },
    ];
  }
}

const schema = z.strictObject({
  kind: z.literal('softmax'),
  normalizeGates: z.boolean().default(false),
  bias: z.boolean().default(false),
  jitter: rate.default(0),
  logitNoise: z.number().min(0).default(0),
  balanceCoefficient: coefficient.default(0.01),
  zLossCoefficient: coefficient.default(0),
  group,
  ...classifierInitializer.options,
});

/** `softmax` in a recipe. */
export const softmaxTopK: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) =>
    new SoftmaxTopKRouter({ ...sizes, ...options }, classifierInitializer.create(options, sizes)),
};
