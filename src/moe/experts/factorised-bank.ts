/**
 * Experts that share a centre and differ from it by factors of low rank: ResMoE with SVD residuals, computed without
 * rebuilding any expert (arXiv 2503.06881; §8 of its spec, exact).
 * @module
 */
import { z } from 'zod';
import { add, concat, matmul, multiply, split, unstack, type Tensor } from '../../graph/index.js';
import { Module, Parameter, weightInitializer, zeros, type Initializer } from '../../nn/index.js';
import { activations, type ActivationName } from '../activations.js';
import type { ExpertBank, ExpertRows, ExpertWeights } from '../expert-bank.js';
import type { TokenCost } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { activationSchema } from '../options.js';
import type { SparseLayerSizes } from '../sizes.js';
import { feedForward } from './feed-forward-bank.js';

/** Settings of {@link FactorisedBank}. */
export interface FactorisedBankOptions {
  readonly numExperts: number;
  readonly hiddenSize: number;
  /** Width inside one expert. */
  readonly intermediateSize: number;
  /** Of each expert's difference from the centre. */
  readonly rank: number;
  readonly activation: ActivationName;
  readonly bias?: boolean;
}

/**
 * Expert e has the weights `W = W_centre + U_e V_e`, where U_e is common to all of its matrices:
 *
 * `h = f(c_gate + (x V_gate,e) U_eᵀ) ⊙ (c_up + (x V_up,e) U_eᵀ)`, with `c = x W_centre` computed once for each token,
 * `y = W_centre,down (Σ_e g_e h_e) + Σ_e g_e (h_e U_e) V_down,e`.
 *
 * k experts a token cost one expert's products for the centre, and for each `2 rank · (hiddenSize + intermediateSize)`
 * FLOPs a matrix. U is stored once but used for each matrix: with gates and a share s of the parameters that is more than
 * the (1 + k·s) / k of the dense experts that the parameters suggest. The released code of the paper adds the outputs of two networks instead, which is not the same: f is not linear.
 */
export class FactorisedBank extends Module implements ExpertBank {
  readonly numExperts: number;
  readonly centreGate: Parameter | undefined;
  readonly centreUp: Parameter;
  readonly centreDown: Parameter;
  readonly centreUpBias: Parameter | undefined;
  /** U, `[numExperts, intermediateSize, rank]` */
  readonly left: Parameter;
  /** V, `[numExperts, hiddenSize, rank]`; of `down` `[numExperts, rank, hiddenSize]`, of the bias `[numExperts, rank]` */
  readonly rightGate: Parameter | undefined;
  readonly rightUp: Parameter;
  readonly rightUpBias: Parameter | undefined;
  readonly rightDown: Parameter;
  readonly downBias: Parameter | undefined;

  constructor(
    private readonly options: FactorisedBankOptions,
    up: Initializer,
    down: Initializer,
  ) {
    super();
    const { numExperts, hiddenSize, intermediateSize, rank, activation, bias = false } = options;
    const { gated } = activations[activation];
    this.numExperts = numExperts;
    this.centreGate = gated ? new Parameter([hiddenSize, intermediateSize], up) : undefined;
    this.centreUp = new Parameter([hiddenSize, intermediateSize], up);
    this.centreDown = new Parameter([intermediateSize, hiddenSize], down);
    this.centreUpBias = bias ? new Parameter([intermediateSize], zeros, false) : undefined;
    this.left = new Parameter([numExperts, intermediateSize, rank], up);
    this.rightGate = gated ? new Parameter([numExperts, hiddenSize, rank], up) : undefined;
    this.rightUp = new Parameter([numExperts, hiddenSize, rank], up);
    this.rightUpBias = bias ? new Parameter([numExperts, rank], zeros, false) : undefined;
    this.rightDown = new Parameter([numExperts, rank, hiddenSize], down);
    this.downBias = bias ? new Parameter([numExperts, hiddenSize], zeros, false) : undefined;
  }

  /** What one expert has for itself; the centre is {@link sharedCost}. */
  get costPerRow(): TokenCost {
    const { numExperts, left, rightGate, rightUp, rightDown, rightUpBias, downBias } = this;
    const size = (parameter: Parameter | undefined): number => (parameter?.size ?? 0) / numExperts;
    const right = size(rightGate) + size(rightUp) + size(rightDown);
    // U is used once for each of the matrices that V belongs to.
    const uses = rightGate ? 3 : 2;
    return {
      parameters: size(left) + right + size(rightUpBias) + size(downBias),
      flops: 2 * (uses * size(left) + right),
    };
  }

  get sharedCost(): TokenCost {
    const { centreGate, centreUp, centreDown, centreUpBias } = this;
    const matrices = (centreGate?.size ?? 0) + centreUp.size + centreDown.size;
    return { parameters: matrices + (centreUpBias?.size ?? 0), flops: 2 * matrices };
  }

  /** `[x | x W_centre,gate | x W_centre,up]` */
  prepare(hidden: Tensor): Tensor {
    const { centreGate, centreUp, centreUpBias } = this;
    const up = matmul(hidden, centreUp.tensor);
    return concat(
      [
        hidden,
        ...(centreGate ? [matmul(hidden, centreGate.tensor)] : []),
        centreUpBias ? add(up, centreUpBias.tensor) : up,
      ],
      1,
    );
  }

  /** `[h | h U V_down]` of each row */
  forward({ pieces }: ExpertRows): readonly Tensor[] {
    const { hiddenSize, intermediateSize, activation } = this.options;
    const { apply } = activations[activation];
    const [left, rightGate, rightUp, rightUpBias, rightDown, downBias] = [
      this.left,
      this.rightGate,
      this.rightUp,
      this.rightUpBias,
      this.rightDown,
      this.downBias,
    ].map((parameter) => parameter && unstack(parameter.tensor));
    const widths = [hiddenSize, ...(rightGate ? [intermediateSize] : []), intermediateSize];
    return pieces.map((piece, expert) => {
      const parts = split(piece, widths, 1);
      const raise = (projected: Tensor): Tensor => matmul(projected, left![expert], { transposeB: true });
      const projected = matmul(parts[0], rightUp![expert]);
      const biased = rightUpBias ? add(projected, rightUpBias[expert]) : projected;
      const raised = add(parts.at(-1)!, raise(biased));
      const inner = rightGate
        ? multiply(apply(add(parts[1], raise(matmul(parts[0], rightGate[expert])))), raised)
        : apply(raised);
      const lowered = matmul(matmul(inner, left![expert]), rightDown![expert]);
      return concat([inner, downBias ? add(lowered, downBias[expert]) : lowered], 1);
    });
  }

  columns(columns: Tensor, weights: ExpertWeights): Tensor {
    const { hiddenSize, intermediateSize, activation } = this.options;
    const { apply } = activations[activation];
    const widths = [hiddenSize, ...(this.rightGate ? [intermediateSize] : []), intermediateSize];
    const parts = split(columns, widths, 0);
    const own = (name: string): Tensor => weights.project(name, parts[0]);
    const raise = (projected: Tensor): Tensor => weights.projectBack('left', projected);
    const projected = this.rightUpBias ? add(own('rightUp'), weights.bias('rightUpBias')) : own('rightUp');
    const raised = add(parts.at(-1)!, raise(projected));
    const inner = this.rightGate
      ? multiply(apply(add(parts[1], raise(own('rightGate')))), raised)
      : apply(raised);
    const lowered = weights.project('rightDown', weights.project('left', inner));
    return concat([inner, this.downBias ? add(lowered, weights.bias('downBias')) : lowered], 0);
  }

  finish(combined: Tensor): Tensor {
    const { hiddenSize, intermediateSize } = this.options;
    const [inner, own] = split(combined, [intermediateSize, hiddenSize], 1);
    return add(matmul(inner, this.centreDown.tensor), own);
  }
}

const schema = z.strictObject({
  kind: z.literal('factorised'),
  /** Of each expert's difference from the centre. */
  rank: z.int().min(1),
  /** The blocks whose experts are factorised, in each stack; those of other sparse blocks are ordinary. All when null. */
  layers: z.array(z.int().min(0)).nullable().default(null),
  /** The model's own when absent. */
  activation: activationSchema.optional(),
  /** The model's own when absent. */
  bias: z.boolean().optional(),
});

/** `factorised` in a recipe or configuration. */
export const factorised: Kind<typeof schema, SparseLayerSizes, ExpertBank & Module> = {
  schema,
  create: ({ rank, layers, activation, bias }, sizes) => {
    const own = { ...(activation ? { activation } : {}), ...(bias === undefined ? {} : { bias }) };
    if (layers && !layers.includes(sizes.layerIndex))
      return feedForward.create(feedForward.schema.parse({ kind: 'feedForward', ...own }), sizes);
    return new FactorisedBank(
      { ...sizes, ...own, rank },
      weightInitializer(sizes.initialization, sizes.hiddenSize),
      weightInitializer(sizes.outputInitialization, sizes.intermediateSize),
    );
  },
};
