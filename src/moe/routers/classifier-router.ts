/**
 * What routers with one logit per expert have in common.
 * @module
 */
import { Linear, Module, type Initializer } from '../../nn/index.js';

/** Sizes of a {@link ClassifierRouter}. */
export interface ClassifierSizes {
  readonly hiddenSize: number;
  readonly numExperts: number;
  readonly topK: number;
}

/** `z = W x`: one row of W per expert. */
export abstract class ClassifierRouter extends Module {
  readonly classifier: Linear;
  readonly numExperts: number;
  readonly topK: number;

  /** @param bias how the logits' bias starts; none when absent. */
  constructor({ hiddenSize, numExperts, topK }: ClassifierSizes, weight: Initializer, bias?: Initializer) {
    super();
    this.classifier = new Linear(hiddenSize, numExperts, weight, { bias: bias ?? false });
    this.numExperts = numExperts;
    this.topK = topK;
  }
}
