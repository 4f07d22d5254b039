/**
 * Expert choice routing: every expert takes the tokens that it scores highest, so that all experts are equally full
 * and no balance loss is needed (Zhou et al., arXiv 2202.09368 §3.2).
 * @module
 */
import { z } from 'zod';
import {
  add,
  broadcastTo,
  cast,
  constant,
  gather,
  greater,
  greaterEqual,
  less,
  logicalAnd,
  multiply,
  range,
  reshape,
  scatterAdd,
  softmax,
  sum,
  topK as largest,
  transpose,
  where,
  zerosLike,
  type Tensor,
} from '../../graph/index.js';
import type { Initializer } from '../../nn/index.js';
import { expertCapacity } from '../dispatch/capacity.js';
import { ExpertChoiceDispatch } from '../dispatch/expert-choice.js';
import type { AuxiliaryLoss, FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { routerZLoss } from '../losses.js';
import { coefficient, group } from '../options.js';
import type { Router, RouterModule, Routing } from '../router.js';
import { classifierInitializer, type SparseLayerSizes } from '../sizes.js';
import { ClassifierRouter } from './classifier-router.js';

/** Settings of {@link ExpertChoiceRouter}. */
export interface ExpertChoiceOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  /** Experts that a token meets on average, before {@link capacityFactor}. */
  readonly topK: number;
  /** Tokens of an expert as a multiple of an even share of the `topK` choices; the paper's c is `topK · capacityFactor`. */
  readonly capacityFactor?: number;
  /**
   * Outside training: `topK` lets every token choose by itself from the same scores, which is causal; `experts` goes on
   * as in training, where a token's experts depend on all tokens of its group.
   */
  readonly evaluation?: 'experts' | 'topK';
  /** Tokens among which an expert chooses: the whole batch, or each sequence by itself. */
  readonly group?: 'batch' | 'sequence';
  /** Coefficient of the router z-loss. */
  readonly zLossCoefficient?: number;
}

/**
 * `S = softmax(W x)` over experts; expert e takes its C highest tokens with their scores as gates,
 * `C = max(1, min(T, ⌊T · topK / numExperts · capacityFactor⌋))` of the T real tokens of a group. A token may have any
 * number of experts, or none. The decision as tokens see it has `numExperts` columns, −1 in those that stay empty.
 */
export class ExpertChoiceRouter extends ClassifierRouter implements Router {
  constructor(
    private readonly options: ExpertChoiceOptions,
    initializer: Initializer,
  ) {
    super(options, initializer);
  }

  get expectedTopK(): number {
    const { numExperts, topK, capacityFactor = 1 } = this.options;
    return Math.min(numExperts, topK * capacityFactor);
  }

  get leak(): string | undefined {
    const { evaluation = 'topK', group = 'batch' } = this.options;
    if (evaluation === 'topK') return undefined;
    const among = group === 'batch' ? 'all tokens of the batch' : 'the whole sequence, later tokens included';
    return `experts choose among ${among}; evaluation: 'topK' lets each token choose by itself`;
  }

  get wholeText(): string | undefined {
    return this.leak;
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const { topK, evaluation = 'topK', zLossCoefficient = 0 } = this.options;
    const logits = this.classifier.forward(hidden);
    const probabilities = softmax(logits);
    const losses: AuxiliaryLoss[] = [
      { name: 'z', coefficient: zLossCoefficient, value: routerZLoss(logits, context.tokenMask) },
    ];
    if (context.training || evaluation === 'experts') {
      return { ...this.choose(probabilities, context), probabilities, losses, partial: true };
    }
    const { values: gates, indices: experts } = largest(probabilities, topK);
    return { experts, gates, probabilities, losses };
  }

  private choose(
    probabilities: Tensor,
    { batchSize, tokenMask }: FeedForwardContext,
  ): Pick<Routing, 'experts' | 'gates' | 'dispatch'> {
    const [tokens, numExperts] = probabilities.shape as [number, number];
    const groups = this.options.group === 'sequence' ? batchSize : 1;
    const perGroup = tokens / groups;
    const capacity = this.capacity(perGroup);
    const byExpert = transpose(reshape(probabilities, [groups, perGroup, numExperts]), [2, 0, 1]);
    const real = tokenMask && reshape(greater(tokenMask, 0), [1, groups, perGroup]);
    const { values, indices } = largest(real ? where(real, byExpert, -1) : byExpert, capacity);
    // Padding is taken last, and so many places fewer count that the real tokens are shared out as if it was not there.
    const counts = tokenMask && this.countingPlaces(values, reshape(tokenMask, [groups, perGroup]));
    const gates = counts ? where(counts, values, 0) : values;

    const chosen = scatterAdd(
      zerosLike(byExpert),
      indices,
      counts ? cast(counts, byExpert.dtype) : add(zerosLike(values), 1),
      2,
    );
    const ofToken = reshape(transpose(chosen, [1, 2, 0]), [tokens, numExperts]);
    const ranked = largest(where(greater(ofToken, 0), probabilities, -1), numExperts);
    const made = greaterEqual(ranked.values, 0);
    const firstOfGroup = reshape(multiply(range(groups), perGroup), [1, groups, 1]);
    const flat = [numExperts, groups * capacity];
    return {
      experts: where(made, ranked.indices, -1),
      gates: where(made, ranked.values, 0),
      dispatch: new ExpertChoiceDispatch({
        tokens: reshape(add(indices, firstOfGroup), flat),
        gates: reshape(gates, flat),
      }),
    };
  }

  private capacity(tokens: number): number {
    const { numExperts, topK, capacityFactor = 1 } = this.options;
    return expertCapacity(tokens, topK, numExperts, capacityFactor, 1);
  }

  /** Bool `[numExperts, groups, capacity]`: places of a real token, as many as the group's real tokens are due. */
  private countingPlaces(values: Tensor, mask: Tensor): Tensor {
    const [groups, perGroup] = mask.shape as [number, number];
    const due = Int32Array.from({ length: perGroup + 1 }, (_, real) => this.capacity(real));
    const real = cast(sum(cast(greater(mask, 0), 'float32'), 1), 'int32');
    const places = cast(
      reshape(gather(constant('int32', [perGroup + 1], due), real), [1, groups, 1]),
      'int64',
    );
    const within = less(reshape(range(values.shape[2]), [1, 1, -1]), places);
    return logicalAnd(broadcastTo(within, values.shape), greaterEqual(values, 0));
  }
}

const schema = z.strictObject({
  kind: z.literal('expertChoice'),
  capacityFactor: z.number().positive().default(1),
  evaluation: z.enum(['experts', 'topK']).default('topK'),
  zLossCoefficient: coefficient.default(0),
  group,
  ...classifierInitializer.options,
});

/** `expertChoice` in a recipe. */
export const expertChoice: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create: (options, sizes) =>
    new ExpertChoiceRouter({ ...sizes, ...options }, classifierInitializer.create(options, sizes)),
};
