/**
 * Noisy top-k gating of the first sparsely-gated mixture layers. Shazeer et al. 2017, arXiv 1701.06538 §2.1, §4,
 * appendix A.
 * @module
 */
import { z } from 'zod';
import { add, cast, multiply, softmax, softplus, topK as largest, type Tensor } from '../../graph/index.js';
import { Linear, weightInitializer, zeros, type Initializer } from '../../nn/index.js';
import type { FeedForwardContext } from '../feed-forward.js';
import type { Kind } from '../kind.js';
import { expertLoad, importanceLoss, loadLoss, squaredVariation } from '../losses.js';
import { coefficient } from '../options.js';
import type { GateRule, Router, RouterModule, Routing } from '../router.js';
import type { SparseLayerSizes } from '../sizes.js';
import { ClassifierRouter } from './classifier-router.js';

/** Settings of {@link NoisyTopKRouter}. */
export interface NoisyTopKOptions {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
  /** Coefficient of the importance loss; 0.1 in the paper's language models. */
  readonly importanceCoefficient?: number;
  /** Coefficient of the load loss; 0.1 in the paper's language models. */
  readonly loadCoefficient?: number;
  /** Added to the σ of the noise, which keeps the load loss smooth when softplus nears 0; the paper has none. */
  readonly minimumNoise?: number;
}

/**
 * `H = x W_g + ε · softplus(x W_noise)` with ε ~ N(0, 1) in training and 0 outside; the k largest of H, weighted by the
 * softmax over these k alone. Outside training the load loss counts choices instead of estimating them.
 */
export class NoisyTopKRouter extends ClassifierRouter implements Router {
  readonly noise: Linear;
  /** A softmax over k logits is that over all of them, divided by what the k have of it. */
  readonly gateRule: GateRule = { normalize: true, scale: 1 };

  constructor(
    private readonly options: NoisyTopKOptions,
    classifier: Initializer,
    noise: Initializer,
  ) {
    super(options, classifier);
    this.noise = new Linear(options.hiddenSize, options.numExperts, noise);
  }

  route(hidden: Tensor, context: FeedForwardContext): Routing {
    const {
      numExperts,
      topK,
      importanceCoefficient = 0,
      loadCoefficient = 0,
      minimumNoise = 0,
    } = this.options;
    const { training, tokenMask: mask } = context;
    const clean = this.classifier.forward(hidden);
    const deviation = training ? add(softplus(this.noise.forward(hidden)), minimumNoise) : undefined;
    const noisy = deviation ? add(clean, multiply(this.draw(clean, context), deviation)) : clean;
    const { values, indices: experts } = largest(noisy, topK);
    const gates = softmax(values);
    const load = deviation
      ? loadLoss({ clean, noisy, deviation, experts }, mask)
      : squaredVariation(cast(expertLoad(experts, numExperts, mask), clean.dtype));
    return {
      experts,
      gates,
      probabilities: softmax(clean),
      losses: [
        {
          name: 'importance',
          coefficient: importanceCoefficient,
          value: importanceLoss(experts, gates, numExperts, mask),
        },
        { name: 'load', coefficient: loadCoefficient, value: load },
      ],
    };
  }

  private draw({ dtype, shape }: Tensor, { site, noise }: FeedForwardContext): Tensor {
    return noise.request(`${site}.noisyTopK`, 'normal', dtype, shape as number[]);
  }
}

const schema = z.strictObject({
  kind: z.literal('noisyTopK'),
  importanceCoefficient: coefficient.default(0.1),
  loadCoefficient: coefficient.default(0.1),
  minimumNoise: z.number().min(0).default(0.01),
  /** `zero`, as in the paper: nothing but noise chooses at first. Or the model's own rule. */
  initialization: z.enum(['zero', 'model']).default('zero'),
});

/** `noisyTopK` in a recipe. */
export const noisyTopK: Kind<typeof schema, SparseLayerSizes, RouterModule> = {
  schema,
  create({ initialization, ...options }, sizes) {
    const start =
      initialization === 'zero' ? zeros : weightInitializer(sizes.initialization, sizes.hiddenSize);
    return new NoisyTopKRouter({ ...sizes, ...options }, start, start);
  },
};
