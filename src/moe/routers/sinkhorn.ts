/**
 * S-BASE: balanced assignment by Sinkhorn's algorithm while training, plain top-k afterwards. Clark et al. 2022,
 * arXiv 2202.01169 §3.1; with sigmoid gates and top-k as σ-MoE's comparison runs it (arXiv 2310.10837 §4).
 * @module
 */
import { z } from 'zod';
import {
  add,
  cast,
  constant,
  gatherElements,
  greater,
  logSumExp,
  multiply,
  negate,
  reshape,
  sigmoid,
  softmax,
  stopGradient,
  subtract,
  topK as largest,
  where,
  type Tensor,
} from '../../graph/index.js';
import { type Initializer } from '../../nn/index.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { entropyLoss } from '../losses.js';
import { coefficient, group, rate } from '../options.js';
import type { Router, RouterModule, Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';
import { survivingExperts } from './expert-dropout.js';
import { createRouterInitializer, routerInitialization } from './sigmoid.js';
import { ClassifierRouter } from './classifier-router.js';

/** Settings of {@link SinkhornRouter}. */
export interface SinkhornRouterOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Rounds of scaling tokens, then experts. */
  readonly iterations?: number;
  /**
   * `correct`: each potential makes its side's sums right, given the other. `released`: σ-MoE's code, which subtracts
   * the other potential where the plan adds it, and so ends elsewhere, with up to twice the load on some experts.
   */
  readonly potentials?: 'correct' | 'released';
  /** Tokens that are balanced together: the whole batch, or each sequence by itself as σ-MoE's code does. */
  readonly group?: 'batch' | 'sequence';
  /** δ: how often an expert is closed to a token in training. A token left with fewer than k gets weights of 0. */
  readonly expertDropout?: number;
  /** γ of the entropy loss. */
  readonly entropyCoefficient?: number;
}

/**
 * In training the k largest of each token's row of the plan `exp(z_te + u_t + v_e)` that uses all experts evenly; it
 * gets no gradient. Outside training the k largest of `z`. The weight is `σ(z_te)` either way.
 *
 * While training, every decision depends on the other tokens of the group, later ones too: the loss of a causal model
 * sees a little of the future. Outside training it does not, so nothing leaks there.
 */
export class SinkhornRouter extends ClassifierRouter implements Router {
  constructor(
    private readonly options: SinkhornRouterOptions,
    initializer: Initializer,
  ) {
    super(options, initializer);
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { topK, expertDropout = 0, entropyCoefficient = 0 } = this.options;
    const logits = this.classifier.forward(hidden);
    const scores = context.training ? this.balance(stopGradient(logits), context) : logits;
    const survivors = survivingExperts(scores, expertDropout, context);
    const { indices: experts } = largest(survivors ? where(survivors, scores, CLOSED) : scores, topK);
    const weights = sigmoid(logits);
    const open = survivors ? multiply(weights, cast(survivors, weights.dtype)) : weights;
    return {
      experts,
      gates: gatherElements(open, experts),
      probabilities: softmax(logits),
      losses: [
        { name: 'entropy', coefficient: entropyCoefficient, value: entropyLoss(logits, context.tokenMask) },
      ],
    };
  }

  /** Logits with the experts' potentials: a token's own potential moves its whole row and cannot change its choice. */
  private balance(logits: Tensor, { tokenMask, batchSize }: FeedForwardContext): Tensor {
    const { numExperts, iterations = 3, potentials = 'correct', group = 'batch' } = this.options;
    const tokens = logits.shape[0] as number;
    const groups = group === 'sequence' ? batchSize : 1;
    const perGroup = tokens / groups;
    const z = reshape(logits, [groups, perGroup, numExperts]);
    const real = tokenMask && greater(reshape(tokenMask, [groups, perGroup, 1]), 0);
    const shift = potentials === 'correct' ? add : subtract;
    let ofExperts = constant(
      logits.dtype,
      [groups, 1, numExperts],
      new Array<number>(groups * numExperts).fill(0),
    );
    for (let round = 0; round < iterations; round++) {
      const ofTokens = reshape(negate(logSumExp(shift(z, ofExperts), 2)), [groups, perGroup, 1]);
      const shifted = shift(z, ofTokens);
      const counted = real ? where(real, shifted, CLOSED) : shifted;
      ofExperts = reshape(negate(logSumExp(counted, 1)), [groups, 1, numExperts]);
    }
    return reshape(add(z, ofExperts), [tokens, numExperts]);
  }
}

/** Below every logit, and finite: sums over nothing but padding stay numbers. */
const CLOSED = -1e30;

const schema = z.strictObject({
  kind: z.literal('sBase'),
  iterations: z.int().min(1).default(3),
  potentials: z.enum(['correct', 'released']).default('correct'),
  group,
  expertDropout: rate.default(0),
  entropyCoefficient: coefficient.default(1e-3),
  initialization: routerInitialization,
});

/** `sBase` in a recipe. */
export const sBase: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: ({ initialization, ...options }, sizes) =>
    new SinkhornRouter({ ...sizes, ...options }, createRouterInitializer(initialization, sizes)),
};
