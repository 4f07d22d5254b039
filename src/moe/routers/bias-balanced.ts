/**
 * Balance without an auxiliary loss: a bias per expert that enters the choice and not the weight. Wang et al. 2024,
 * arXiv 2408.15664; DeepSeek-V3, arXiv 2412.19437 §2.1.2.
 * @module
 */
import { z } from 'zod';
import {
  add,
  cast,
  divide,
  gatherElements,
  multiply,
  sigmoid,
  softmax,
  stopGradient,
  sum,
  topK as largest,
  type Tensor,
} from '../../graph/index.js';
import { Parameter, zeros, type Initializer, type StateUpdate } from '../../nn/index.js';
import type { AuxiliaryLoss, FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { balanceLoss, expertLoad } from '../losses.js';
import { coefficient } from '../options.js';
import type { GateRule, Router, RouterModule, Routing } from '../router.js';
import { classifierInitializer, type SparseLayerSizes } from '../sizes.js';
import { ClassifierRouter } from './classifier-router.js';
import { checkGroups, groupsSchema, limitToGroups, type ExpertGroups } from './group-limit.js';
import { normalizedGates } from './normalize-gates.js';

/** Settings of {@link BiasBalancedRouter}. */
export interface BiasBalancedOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** What turns logits into scores; DeepSeek-V3 has `sigmoid`. */
  readonly score?: 'sigmoid' | 'softmax';
  /** Divide the chosen scores by their sum; by default with `sigmoid` only. */
  readonly normalizeGates?: boolean | undefined;
  /** Multiplies every weight; 2.5 in DeepSeek-V3. */
  readonly scale?: number;
  /** Limits a token to the experts of a few groups. */
  readonly groups?: ExpertGroups | undefined;
  /** u: how far a bias moves after each update of the weights. */
  readonly updateSpeed?: number;
  /** α of the balance loss of each sequence; 1e-4 in DeepSeek-V3. */
  readonly sequenceBalanceCoefficient?: number;
}

/**
 * The k experts of largest `s_e + b_e`, weighted by `s_e`. After every update of the weights `b_e` falls by u where the
 * expert got more tokens than the mean and rises by u where it got fewer, and the biases are centred again: their mean
 * changes no choice.
 */
export class BiasBalancedRouter extends ClassifierRouter implements Router {
  /** `b`: state that follows the load, without a gradient. */
  readonly loadBias: Parameter;

  constructor(
    private readonly options: BiasBalancedOptions,
    initializer: Initializer,
  ) {
    super(options, initializer);
    if (options.groups) checkGroups(options.groups, options);
    this.loadBias = new Parameter([options.numExperts], zeros, false, { trainable: false });
  }

  /** Sigmoids only where their sum, by which `probabilities` differ from them, is divided out. */
  get gateRule(): GateRule | undefined {
    const { score = 'sigmoid', normalizeGates: normalize = score === 'sigmoid', scale = 1 } = this.options;
    return score === 'softmax' || normalize ? { normalize, scale } : undefined;
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { topK, groups, score = 'sigmoid', normalizeGates = score === 'sigmoid', scale = 1 } = this.options;
    const logits = this.classifier.forward(hidden);
    const scores = score === 'sigmoid' ? sigmoid(logits) : softmax(logits);
    const biased = add(scores, this.loadBias.tensor);
    const { indices: experts } = largest(groups ? limitToGroups(stopGradient(biased), groups) : biased, topK);
    const chosen = gatherElements(scores, experts);
    const gates = normalizeGates ? normalizedGates(chosen) : chosen;
    const probabilities = score === 'sigmoid' ? divide(scores, add(sum(scores, 1, true), 1e-20)) : scores;
    return {
      experts,
      gates: scale === 1 ? gates : multiply(gates, scale),
      probabilities,
      losses: this.losses(scores, probabilities, context),
      updates: context.training ? [this.follow(experts, hidden, context)] : [],
    };
  }

  /** DeepSeek-V3 eq. 17–20: each sequence by itself, and choices as they would be without the biases. */
  private losses(scores: Tensor, probabilities: Tensor, context: FeedForwardContext): AuxiliaryLoss[] {
    const { topK, sequenceBalanceCoefficient: weight = 0 } = this.options;
    if (weight === 0) return [];
    const { indices } = largest(scores, topK);
    const value = balanceLoss(probabilities, indices, context.tokenMask, context.batchSize);
    return [{ name: 'balance', coefficient: weight, value }];
  }

  private follow(experts: Tensor, { dtype }: Tensor, { tokenMask }: FeedForwardContext): StateUpdate {
    const { numExperts, updateSpeed = 1e-3 } = this.options;
    return {
      parameter: this.loadBias,
      observation: cast(expertLoad(experts, numExperts, tokenMask), dtype),
      apply: (bias, load) => followLoad(bias, load, updateSpeed),
    };
  }
}

/** `b_e += speed · sign(mean load − load_e)`, then the mean of `b` is taken off. In place. */
export function followLoad(bias: Float32Array, load: Float32Array, speed: number): void {
  const mean = (numbers: Float32Array): number =>
    numbers.reduce((total, value) => total + value, 0) / numbers.length;
  const even = mean(load);
  const moved = bias.map((value, expert) => value + speed * Math.sign(even - load[expert]));
  const centre = mean(moved);
  for (let expert = 0; expert < bias.length; expert++) bias[expert] = moved[expert] - centre;
}

const schema = z.strictObject({
  kind: z.literal('biasBalanced'),
  score: z.enum(['sigmoid', 'softmax']).default('sigmoid'),
  /** Whether the chosen scores are divided by their sum; by default with `sigmoid` only. */
  normalizeGates: z.boolean().optional(),
  scale: z.number().positive().default(1),
  groups: groupsSchema('topTwo'),
  updateSpeed: z.number().min(0).default(1e-3),
  sequenceBalanceCoefficient: coefficient.default(0),
  ...classifierInitializer.options,
});

/** `biasBalanced` in a recipe. */
export const biasBalanced: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) =>
    new BiasBalancedRouter({ ...sizes, ...options }, classifierInitializer.create(options, sizes)),
};
