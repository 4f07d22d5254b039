/**
 * The router of σ-MoE: experts do not compete for their weights. arXiv 2310.10837 §5; Csordás, Irie, Schmidhuber.
 * @module
 */
import { z } from 'zod';
import { cast, multiply, sigmoid, softmax, topK as largest, type Tensor } from '../../graph/index.js';
import { weightInitializer, type Initializer } from '../../nn/index.js';
import type { AuxiliaryLoss, FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { entropyLoss } from '../losses.js';
import { coefficient, rate } from '../options.js';
import type { Router, RouterModule, Routing } from '../router.js';
import { sigmaMoeClassifier } from '../sigma-moe-initialization.js';
import type { SparseLayerSizes } from '../sizes.js';
import { survivingExperts } from './expert-dropout.js';
import { ClassifierRouter } from './classifier-router.js';
import { normalizedGates } from './normalize-gates.js';

/** Settings of {@link SigmoidRouter}. */
export interface SigmoidRouterOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Divide the chosen scores by their sum; σ-MoE does not. */
  readonly normalizeGates?: boolean;
  /** δ: how often an expert's score is 0 for a token in training. A token may still choose it, with weight 0. */
  readonly expertDropout?: number;
  /** γ of the entropy loss; 1e-3 or 1e-4 in the paper. */
  readonly entropyCoefficient?: number;
}

/**
 * `s = σ(W_3 x)`; the k largest, weighted by themselves. The entropy loss looks at `softmax(W_3 x)` instead, and at
 * every expert whether dropped or chosen or not.
 */
export class SigmoidRouter extends ClassifierRouter implements Router {
  constructor(
    private readonly options: SigmoidRouterOptions,
    initializer: Initializer,
  ) {
    super(options, initializer);
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { topK, normalizeGates = false, expertDropout = 0 } = this.options;
    const logits = this.classifier.forward(hidden);
    const scores = sigmoid(logits);
    const survivors = survivingExperts(scores, expertDropout, context);
    const { values, indices: experts } = largest(
      survivors ? multiply(scores, cast(survivors, scores.dtype)) : scores,
      topK,
    );
    const gates = normalizeGates ? normalizedGates(values) : values;
    return { experts, gates, probabilities: softmax(logits), losses: this.losses(logits, context) };
  }

  private losses(logits: Tensor, { tokenMask }: FeedForwardContext): AuxiliaryLoss[] {
    const { entropyCoefficient = 0 } = this.options;
    return [{ name: 'entropy', coefficient: entropyCoefficient, value: entropyLoss(logits, tokenMask) }];
  }
}

/** How routers of the σ-MoE family start: `sigmaMoe` rows of equal norm, or the model's own rule. */
export const routerInitialization = z.enum(['sigmaMoe', 'model']).default('sigmaMoe');

/** The initializer that {@link routerInitialization} names. */
export function createRouterInitializer(
  kind: z.infer<typeof routerInitialization>,
  { numLayers, hiddenSize, initialization }: SparseLayerSizes,
): Initializer {
  return kind === 'sigmaMoe'
    ? sigmaMoeClassifier(numLayers, hiddenSize)
    : weightInitializer(initialization, hiddenSize);
}

const schema = z.strictObject({
  kind: z.literal('sigmoid'),
  normalizeGates: z.boolean().default(false),
  expertDropout: rate.default(0),
  entropyCoefficient: coefficient.default(1e-3),
  initialization: routerInitialization,
});

/** `sigmoid` in a recipe. */
export const sigmoidTopK: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: ({ initialization, ...options }, sizes) =>
    new SigmoidRouter({ ...sizes, ...options }, createRouterInitializer(initialization, sizes)),
};
