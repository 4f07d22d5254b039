/**
 * The softmax router of Switch Transformer (top-1) and GShard-style MoE (top-k). arXiv 2101.03961 §2.1–2.4.
 * @module
 */
import { z } from 'zod';
import {
  add,
  gatherElements,
  log,
  maximum,
  multiply,
  negate,
  softmax,
  stopGradient,
  topK as largest,
  type Tensor,
} from '../../graph/index.js';
import { dropout, zeros, type Initializer } from '../../nn/index.js';
import type { AuxiliaryLoss, FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { balanceLoss, entropyLoss, routerZLoss, type BalanceForm } from '../losses.js';
import { balanceForm, coefficient, group, rate } from '../options.js';
import type { GateRule, Router, RouterModule, Routing } from '../router.js';
import { classifierInitializer, type SparseLayerSizes } from '../sizes.js';
import { ClassifierRouter } from './classifier-router.js';
import { checkGroups, groupsSchema, limitToGroups, type ExpertGroups } from './group-limit.js';
import { normalizedGates } from './normalize-gates.js';

/** Settings of {@link SoftmaxTopKRouter}. */
export interface SoftmaxTopKOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Divide the chosen probabilities by their sum. Switch does not: its gate is the raw probability. */
  readonly normalizeGates?: boolean;
  /** Multiplies every gate; DeepSeek-V2's `routed_scaling_factor`. */
  readonly scale?: number | undefined;
  /** Limits a token to the experts of a few groups (DeepSeek-V2). */
  readonly groups?: ExpertGroups | undefined;
  /** Add a bias to the logits, as the Omni-router does; Switch has none. */
  readonly bias?: boolean;
  /** σ of Gaussian noise on the logits in training (a port of Omni-router; arXiv 2507.05724). */
  readonly logitNoise?: number;
  /** ε of the multiplicative noise U(1−ε, 1+ε) on the router's input in training; experts see the clean input. */
  readonly jitter?: number;
  /** Dropout on the router's input in training, another of Switch's ways to explore; experts see the whole input. */
  readonly inputDropout?: number;
  /** `sample`: in training draw the experts from the softmax, without putting back, instead of taking the largest. */
  readonly exploration?: 'argmax' | 'sample';
  /** α of the balance loss; Switch uses 1e-2. */
  readonly balanceCoefficient?: number;
  /** Factor of the balance loss, as the paper or as σ-MoE's code has it. */
  readonly balanceForm?: BalanceForm;
  /** Coefficient of the router z-loss; ST-MoE uses 1e-3. */
  readonly zLossCoefficient?: number;
  /** γ of the entropy loss, in σ-MoE's comparisons (arXiv 2310.10837 §5). */
  readonly entropyCoefficient?: number;
  /**
   * What the entropy loss looks at: `all` logits, or the `selected` ones by rank, as σ-MoE's code does with
   * renormalised gates (which balances ranks, not experts).
   */
  readonly entropyOf?: 'all' | 'selected';
  /** Tokens that are balanced together: the whole batch, or each sequence by itself. */
  readonly group?: 'batch' | 'sequence';
}

/** `p = softmax(W_r x)`; the k most probable experts, weighted by their probabilities. */
export class SoftmaxTopKRouter extends ClassifierRouter implements Router {
  constructor(
    private readonly options: SoftmaxTopKOptions,
    initializer: Initializer,
    biasInitializer: Initializer = zeros,
  ) {
    super(options, initializer, options.bias ? biasInitializer : undefined);
    if (options.groups) checkGroups(options.groups, options);
  }

  get gateRule(): GateRule {
    const { normalizeGates: normalize = false, scale = 1 } = this.options;
    return { normalize, scale };
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { normalize, scale } = this.gateRule;
    const seen = this.dropInput(this.addJitter(hidden, context), context);
    const logits = this.addNoise(this.classifier.forward(seen), context);
    const probabilities = softmax(logits);
    const { values, indices: experts } =
      this.sample(logits, probabilities, context) ?? this.choose(probabilities);
    const shares = normalize ? normalizedGates(values) : values;
    const gates = scale === 1 ? shares : multiply(shares, scale);
    return { experts, gates, probabilities, losses: this.losses(logits, probabilities, experts, context) };
  }

  private choose(probabilities: Tensor): { values: Tensor; indices: Tensor } {
    const { topK, groups } = this.options;
    if (!groups) return largest(probabilities, topK);
    const { indices } = largest(limitToGroups(stopGradient(probabilities), groups), topK);
    return { values: gatherElements(probabilities, indices), indices };
  }

  /** Gumbel noise: the largest of `logits − ln(−ln u)` are draws from the softmax. */
  private sample(
    logits: Tensor,
    probabilities: Tensor,
    context: FeedForwardContext,
  ): { values: Tensor; indices: Tensor } | undefined {
    const { topK, groups, exploration = 'argmax' } = this.options;
    if (!context.training || exploration === 'argmax') return undefined;
    const site = `${context.site}.routerSample`;
    const uniform = context.noise.request(site, 'uniform', logits.dtype, logits.shape as number[]);
    const gumbel = negate(log(negate(log(maximum(uniform, 1e-30)))));
    const drawn = add(stopGradient(logits), gumbel);
    const { indices } = largest(groups ? limitToGroups(drawn, groups) : drawn, topK);
    return { values: gatherElements(probabilities, indices), indices };
  }

  private dropInput(hidden: Tensor, context: FeedForwardContext): Tensor {
    return dropout(hidden, this.options.inputDropout ?? 0, `${context.site}.routerInput`, context);
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
    const {
      balanceCoefficient = 0,
      balanceForm: form,
      zLossCoefficient = 0,
      entropyCoefficient = 0,
      entropyOf = 'all',
      group = 'batch',
    } = this.options;
    const { tokenMask: mask } = context;
    const groups = group === 'sequence' ? context.batchSize : 1;
    const balance = balanceLoss(probabilities, experts, mask, groups, form);
    const losses = [
      { name: 'balance', coefficient: balanceCoefficient, value: balance },
      { name: 'z', coefficient: zLossCoefficient, value: routerZLoss(logits, mask) },
    ];
    if (entropyCoefficient > 0) {
      const seen = entropyOf === 'all' ? logits : gatherElements(logits, experts);
      losses.push({ name: 'entropy', coefficient: entropyCoefficient, value: entropyLoss(seen, mask) });
    }
    return losses;
  }
}

const schema = z.strictObject({
  kind: z.literal('softmax'),
  normalizeGates: z.boolean().default(false),
  /** 1 when absent. */
  scale: z.number().positive().optional(),
  groups: groupsSchema('largest'),
  bias: z.boolean().default(false),
  jitter: rate.default(0),
  logitNoise: z.number().min(0).default(0),
  inputDropout: rate.default(0),
  exploration: z.enum(['argmax', 'sample']).default('argmax'),
  balanceCoefficient: coefficient.default(0.01),
  balanceForm,
  zLossCoefficient: coefficient.default(0),
  entropyCoefficient: coefficient.default(0),
  entropyOf: z.enum(['all', 'selected']).default('all'),
  group,
  ...classifierInitializer.options,
});

/** `softmax` in a recipe. */
export const softmaxTopK: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) =>
    new SoftmaxTopKRouter(
      { ...sizes, ...options },
      classifierInitializer.create(options, sizes),
      classifierInitializer.createBias(options, sizes),
    ),
};
