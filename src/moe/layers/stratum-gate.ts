/**
 * One gate of a stratified layer (SMoE, arXiv 2305.02176 §3): top-2 or top-1 over its own stratum and all later ones.
 * @module
 */
import {
  add,
  cast,
  concat,
  constant,
  divide,
  floor,
  gatherElements,
  greater,
  greaterEqual,
  less,
  log,
  logicalAnd,
  maximum,
  minimum,
  multiply,
  negate,
  oneHot,
  reshape,
  scalar,
  sigmoid,
  slice,
  softmax,
  stopGradient,
  sum,
  topK as largest,
  where,
  type Tensor,
} from '../../graph/index.js';
import { fillUniform, Linear, Module, streamKey, type Initializer } from '../../nn/index.js';
import { positionsInQueue } from '../dispatch/capacity.js';
import type { FeedForwardContext } from '../feed-forward.js';
import { balanceLoss } from '../losses.js';

/** What all gates of a layer have in common. */
export interface StratumGateOptions {
  readonly topK: 1 | 2;
  /** What weighs an expert's output; the choice is the same for both. */
  readonly score: 'softmax' | 'sigmoid';
  readonly combineWeights: 'raw' | 'renormalized';
  readonly secondExpert: 'top' | 'sample' | 'random';
  readonly evaluationNoise: boolean;
  readonly capacityFactor: number | null;
  readonly evaluationCapacity: number | null;
}

/** What a gate decided; experts are counted from the first that it sees. */
export interface GateDecision {
  /** Int64 `[tokens, min(topK, visible)]`: choices before any is dropped, −1 for tokens that are elsewhere. */
  readonly experts: Tensor;
  /** The same with −1 for choices that found no place. */
  readonly kept: Tensor;
  /** Whether either may hold −1. */
  readonly partial: boolean;
  /** Float, weights of the kept choices, 0 for all others. */
  readonly gates: Tensor;
  /** Float `[tokens, visible]`: softmax of the logits, zeros for tokens that are elsewhere. */
  readonly probabilities: Tensor;
  /** Int64 `[tokens]`: the best expert of every row, which decides where the token goes next. */
  readonly first: Tensor;
  /** Int32 scalar. */
  readonly dropped: Tensor;
  /** `E_i Σ f_e p_e` over the tokens that are here, f counted over first choices; 0 when there is none. */
  readonly balance: Tensor;
}

/** Keeps a weight of two dropped choices from being 0/0. */
const epsilon = 1.1920928955078125e-7;

/** `g = score(G u)` over the visible experts, without a bias. */
export class StratumGate extends Module {
  readonly classifier: Linear;

  /** @param visible experts that the gate sees */
  constructor(
    private readonly options: StratumGateOptions,
    private readonly visible: number,
    hiddenSize: number,
    initializer: Initializer,
  ) {
    super();
    this.classifier = new Linear(hiddenSize, visible, initializer);
  }

  /**
   * @param hidden `[tokens, hiddenSize]`, normalised
   * @param here float `[tokens]`: 1 for tokens that are at this gate; all are when absent
   */
  choose(hidden: Tensor, here: Tensor | undefined, context: FeedForwardContext): GateDecision {
    const { dtype } = hidden;
    const logits = this.classifier.forward(hidden);
    const probabilities = softmax(logits);
    const wanted = this.select(stopGradient(logits), stopGradient(probabilities), context);
    const column = here && reshape(here, [-1, 1]);
    const experts = column ? where(greater(column, 0), wanted, -1) : wanted;
    const limit = this.places(here, hidden.shape[0] as number, context);
    const kept = limit
      ? where(less(positionsInQueue(experts, this.visible, 1, here), limit), experts, -1)
      : experts;
    const scores = this.options.score === 'sigmoid' ? sigmoid(logits) : probabilities;
    const made = cast(greaterEqual(kept, 0), dtype);
    const raw = multiply(gatherElements(scores, where(less(kept, 0), 0, kept)), made);
    const first = slice(wanted, 1, 0, 1);
    return {
      experts,
      kept,
      partial: here !== undefined || limit !== undefined || this.options.secondExpert === 'random',
      gates:
        this.options.combineWeights === 'renormalized'
          ? divide(raw, maximum(sum(raw, 1, true), epsilon))
          : raw,
      probabilities: column ? multiply(probabilities, column) : probabilities,
      first: reshape(first, [-1]),
      dropped: cast(sum(cast(logicalAnd(greaterEqual(experts, 0), less(kept, 0)), 'float32')), 'int32'),
      balance: balanceLoss(probabilities, first, here),
    };
  }

  /** Int64 `[tokens, min(topK, visible)]`; −1 where the second choice is left out. */
  private select(logits: Tensor, probabilities: Tensor, context: FeedForwardContext): Tensor {
    const { topK, secondExpert, evaluationNoise } = this.options;
    const best = largest(logits, Math.min(topK, this.visible)).indices;
    const noisy = context.training || evaluationNoise;
    if (best.shape[1] === 1 || secondExpert === 'top' || !noisy) return best;
    const first = slice(best, 1, 0, 1);
    if (secondExpert === 'random') {
      const second = slice(best, 1, 1, 2);
      const chance = multiply(gatherElements(probabilities, second), 2);
      return concat([first, where(less(noiseLike(second, logits, context), chance), second, -1)], 1);
    }
    // Away from 0 and 1, where float32 would make a certainty of one draw.
    const draw = minimum(maximum(noiseLike(logits, logits, context), 1e-12), 1 - 1e-7);
    const perturbed = add(logits, negate(log(negate(log(draw)))));
    const taken = greater(oneHot(reshape(first, [-1]), this.visible, logits.dtype), 0);
    return concat([first, largest(where(taken, -1e30, perturbed), 1).indices], 1);
  }

  /** Places per expert as a float32 scalar, or undefined when everyone has one. */
  private places(here: Tensor | undefined, tokens: number, context: FeedForwardContext): Tensor | undefined {
    const { topK, capacityFactor, evaluationCapacity } = this.options;
    const limit = context.training ? capacityFactor : evaluationCapacity;
    if (limit === null) return undefined;
    const count = here ? sum(cast(here, 'int64')) : scalar('int64', tokens);
    if (!context.training) {
      return cast(negate(floor(multiply(cast(count, 'float64'), -limit))), 'float32');
    }
    const share = divide(add(count, this.visible - 1), this.visible);
    return cast(floor(multiply(cast(share, 'float64'), topK * limit)), 'float32');
  }
}

/**
 * Uniform noise: drawn for every step in training; outside training drawn once and for all from the site's name, so
 * that evaluating twice gives the same numbers.
 */
function noiseLike({ shape }: Tensor, { dtype }: Tensor, context: FeedForwardContext): Tensor {
  const site = `${context.site}.secondExpert`;
  const sizes = shape as number[];
  if (context.training) return context.noise.request(site, 'uniform', dtype, sizes);
  const numbers = new Float64Array(sizes.reduce((a, b) => a * b, 1));
  fillUniform(streamKey(site), numbers);
  return constant(dtype, sizes, numbers);
}
