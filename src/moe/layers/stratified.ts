/**
 * Stratified mixture of experts with dynamic capacity (SMoE, arXiv 2305.02176 §3): experts stand in an ordered list of
 * strata with one gate each, and a token passes one or several of them on its way to the last.
 * @module
 */
import { z } from 'zod';
import {
  add,
  cast,
  constant,
  divide,
  equal,
  gather,
  greater,
  less,
  minimum,
  multiply,
  pad,
  reshape,
  scalar,
  sum,
  where,
  type Tensor,
} from '../../graph/index.js';
import { dropout, LayerNorm, Module, RMSNorm, weightInitializer } from '../../nn/index.js';
import { weightedSum } from '../combine.js';
import { addCosts, moduleCost } from '../cost.js';
import { DroplessDispatch } from '../dispatch/dropless.js';
import type { ExpertBank } from '../expert-bank.js';
import { bankKinds, expertsSchema } from '../experts/index.js';
import type {
  AuxiliaryLoss,
  FeedForward,
  FeedForwardContext,
  FeedForwardOutput,
  RoutingRecord,
  TokenCost,
} from '../feed-forward.js';
import { createKind, type Kind } from '../kind.js';
import { coefficient, placement, size } from '../options.js';
import type { LayerSizes } from '../sizes.js';
import { routingRecord } from '../sparse-layer.js';
import { strataOffsets, visibleExperts, visitProbabilities } from './strata.js';
import { StratumGate, type GateDecision } from './stratum-gate.js';

const schema = z
  .strictObject({
    kind: z.literal('stratified'),
    ...placement,
    /** Experts of each stratum, first to last: `[4, 12]` is SMoE-4-12. */
    strata: z.array(size).min(1),
    /** Experts that a gate sends a token to. */
    topK: z.union([z.literal(1), z.literal(2)]).default(2),
    /** Width inside one expert; the dense layers' width when absent. */
    intermediateSize: size.optional(),
    /** Weights of the chosen experts: the paper's softmax over the visible experts, or a sigmoid for each. */
    score: z.enum(['softmax', 'sigmoid']).default('softmax'),
    /** `raw`: the scores themselves (paper). `renormalized`: divided by their sum over the kept ones (released code). */
    combineWeights: z.enum(['raw', 'renormalized']).default('raw'),
    /**
     * `top`: the second best (paper). `sample`: drawn from the others by Gumbel noise on the logits (released code).
     * `random`: the second best with probability min(1, 2 p).
     */
    secondExpert: z.enum(['top', 'sample', 'random']).default('top'),
    /** Draw outside training as well, as the released code does; the draws are then the same in every evaluation. */
    evaluationNoise: z.boolean().default(false),
    /**
     * `prenorm`: expert outputs join the stream as it came (paper eq. 4–7). `released`: from the second stratum on they
     * join its normalised form, and the layer's output is normalised once more.
     */
    residual: z.enum(['prenorm', 'released']).default('prenorm'),
    /**
     * Places per expert in training: `⌊topK · factor · ⌈T_i / E_i⌉⌋` for the T_i tokens that are at gate i, E_i experts
     * visible. Null drops nothing; the released code has 1.
     */
    capacityFactor: z.number().positive().nullable().default(null),
    /** Places per expert outside training, as a share of T_i (rounded up); null drops nothing. */
    evaluationCapacity: z.number().positive().max(1).nullable().default(null),
    /** α of the balance loss, averaged over gates and over the sparse layers of the model, encoder and decoder alike. */
    balanceCoefficient: coefficient.default(0.01),
    /** Gates that the balance loss averages over: all (paper), or those that had a token (released code). */
    balanceOver: z.enum(['gates', 'gatesRun']).default('gates'),
    /** `uniform`: experts and gates start in ±1/√fanIn, as in the released code. `model`: as the model's weights do. */
    initialization: z.enum(['uniform', 'model']).default('uniform'),
    experts: expertsSchema.prefault({ kind: 'feedForward' }),
  })
  .superRefine(({ topK, combineWeights, secondExpert, evaluationNoise }, context) => {
    const refuse = (path: string, message: string): void =>
      context.addIssue({ code: 'custom', path: [path], message });
    if (topK === 1 && combineWeights === 'renormalized') {
      refuse('combineWeights', 'renormalized weights are all 1 with topK 1; use raw, or topK 2');
    }
    if (topK === 1 && secondExpert !== 'top') {
      refuse('secondExpert', `topK 1 has no second expert to ${secondExpert}; leave it out, or use topK 2`);
    }
    if (evaluationNoise && secondExpert === 'top') {
      refuse('evaluationNoise', "secondExpert 'top' draws nothing; choose sample or random, or leave it out");
    }
  });

/** Options of a stratified layer. */
export type StratifiedOptions = z.infer<typeof schema>;

/** Owns its norms and its residual connections: it reads the stream as it is and returns the new one. */
export class StratifiedLayer extends Module implements FeedForward {
  readonly ownsResidual = true;
  /** One before each gate. */
  readonly norms: readonly (RMSNorm | LayerNorm)[];
  /** On leaving the layer, where `residual` is `released`. */
  readonly exitNorm: RMSNorm | LayerNorm | undefined;
  readonly gates: readonly StratumGate[];
  /** All experts of all strata, numbered through. */
  readonly experts: ExpertBank & Module;
  private readonly dispatch = new DroplessDispatch();

  constructor(
    private readonly options: StratifiedOptions,
    private readonly sizes: LayerSizes,
  ) {
    super();
    const { strata, topK, intermediateSize = sizes.intermediateSize } = options;
    const { hiddenSize } = sizes;
    const rule =
      options.initialization === 'uniform'
        ? { initialization: uniformRule, outputInitialization: uniformRule }
        : {};
    const expertSizes = { ...sizes, ...rule, topK, intermediateSize, numExperts: visibleExperts(strata)[0] };
    const norm = (): RMSNorm | LayerNorm =>
      sizes.norm === 'rms'
        ? new RMSNorm(hiddenSize, sizes.normEpsilon)
        : new LayerNorm(hiddenSize, sizes.normEpsilon);
    this.norms = strata.map(norm);
    this.exitNorm = options.residual === 'released' ? norm() : undefined;
    this.gates = visibleExperts(strata).map(
      (visible) =>
        new StratumGate(
          options,
          visible,
          hiddenSize,
          weightInitializer(expertSizes.initialization, hiddenSize),
        ),
    );
    this.experts = createKind(bankKinds, options.experts, expertSizes);
  }

  get leak(): string | undefined {
    return (this.options.evaluationCapacity ?? 1) < 1
      ? 'places of a stratum are shared by all tokens of the batch; evaluationCapacity null gives everyone one'
      : undefined;
  }

  /** @throws Error if a decision of others is to replace the layer's own: it makes several. */
  forward(hidden: Tensor, context: FeedForwardContext): FeedForwardOutput {
    if (context.routingOverride) {
      throw new Error(
        `layer ${context.layerIndex} is stratified: one decision cannot replace those of its gates`,
      );
    }
    const { strata } = this.options;
    const offsets = strataOffsets(strata);
    const { dtype } = hidden;
    let here = context.tokenMask && cast(greater(context.tokenMask, 0), dtype);
    let next: Tensor | undefined;
    let stream = hidden;
    const records: RoutingRecord[] = [];
    const visitors: (Tensor | undefined)[] = [];
    this.gates.forEach((gate, stratum) => {
      const local = { ...context, site: `${context.site}.stratum${stratum}` };
      if (next) here = cast(equal(next, stratum), dtype);
      const normed = this.norms[stratum].forward(stream);
      const decision = gate.choose(normed, here, local);
      const joined =
        here && stratum > 0 && this.exitNorm
          ? where(reshape(greater(here, 0), [-1, 1]), normed, stream)
          : stream;
      stream = add(joined, this.visit(normed, decision, offsets[stratum], local));
      records.push(this.record(decision, stratum, local));
      visitors.push(here);
      const destinations = strata.flatMap((size, j) =>
        j < stratum ? [] : new Array<number>(size).fill(j + 1),
      );
      const destination = gather(constant('int64', [destinations.length], destinations), decision.first);
      next = here ? where(greater(here, 0), destination, next ?? -1) : destination;
    });
    return {
      output: this.exitNorm?.forward(stream) ?? stream,
      records,
      losses: [this.balance(records, visitors)],
    };
  }

  /** What the kept experts add to the stream. */
  private visit(normed: Tensor, decision: GateDecision, offset: number, context: FeedForwardContext): Tensor {
    const { kept, gates, probabilities, partial } = decision;
    const experts = numbered(kept, offset);
    if (context.experts) {
      const { site, layerIndex, tokenMask } = context;
      const rows = { rows: normed, hidden: normed, experts, gates, tokenMask };
      return context.experts.combine({ site, layerIndex, bank: this.experts, ...rows, context });
    }
    const routing = { experts, gates, probabilities, partial, losses: [] };
    const dispatched = this.dispatch.dispatch(normed, routing, this.experts.numExperts, context);
    const outputs = dispatched.collect(this.experts.forward(dispatched.rows, context));
    return weightedSum(dropout(outputs, this.sizes.dropout, `${context.site}.output`, context), gates);
  }

  private record(decision: GateDecision, stratum: number, context: FeedForwardContext): RoutingRecord {
    const offset = strataOffsets(this.options.strata)[stratum];
    const routing = {
      experts: numbered(decision.experts, offset),
      gates: decision.gates,
      probabilities: pad(decision.probabilities, 1, offset, 0),
      losses: [this.loss(decision.balance)],
    };
    return routingRecord(routing, this.experts.numExperts, decision.dropped, context, {
      name: `${context.layerIndex}.${stratum}`,
      firstExpert: offset,
    });
  }

  private balance(
    records: readonly RoutingRecord[],
    visitors: readonly (Tensor | undefined)[],
  ): AuxiliaryLoss {
    const total = records.map(({ losses: [{ value }] }) => value).reduce(add);
    if (this.options.balanceOver === 'gates') return this.loss(multiply(total, 1 / records.length));
    const ran = visitors.map((here) => (here ? minimum(sum(here), 1) : scalar(total.dtype, 1)));
    return this.loss(divide(total, ran.reduce(add)));
  }

  private loss(value: Tensor): AuxiliaryLoss {
    const coefficient = this.options.balanceCoefficient / this.sizes.numSparseLayers;
    return { name: 'balance', coefficient, value };
  }

  /** Gates and experts by the visits that uniform gates would give. */
  cost(): TokenCost {
    const { strata, topK } = this.options;
    const visits = visitProbabilities(strata);
    const rows = visibleExperts(strata).reduce((sum, e, i) => sum + visits[i] * Math.min(topK, e), 0);
    return addCosts(
      [this.experts.costPerRow, rows],
      ...visits.flatMap((share, i) => [
        [moduleCost(this.gates[i]), share] as const,
        [moduleCost(this.norms[i]), share] as const,
      ]),
      ...(this.exitNorm ? [[moduleCost(this.exitNorm), 1] as const] : []),
    );
  }
}

const uniformRule = { kind: 'uniform', scale: 1, standardDeviation: 1 } as const;

/** Visible experts by their numbers in the whole layer; −1 stays. */
function numbered(experts: Tensor, offset: number): Tensor {
  return offset === 0 ? experts : where(less(experts, 0), experts, add(experts, offset));
}

/** `stratified` in a recipe. */
export const stratified: Kind<typeof schema, LayerSizes, FeedForward & Module> = {
  schema,
  create: (options, layer) => new StratifiedLayer(options, layer),
};
