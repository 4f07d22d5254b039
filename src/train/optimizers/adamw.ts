/**
 * AdamW: Adam with decoupled weight decay (arXiv 1711.05101, algorithm 2; bias correction as in PyTorch).
 * @module
 */
import { add, divide, multiply, sqrt, subtract } from '../../graph/index.js';
import { FlatPass, flatScalar, flatVector } from '../flat-pass.js';
import type { OptimizerFactory } from '../optimizer.js';

/** Settings of {@link createAdamW}. */
export interface AdamWOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Applied to matrices only: biases and the weights of norms do not decay. */
  readonly weightDecay: number;
}

/** Two moments per parameter; `θ ← θ·(1 − lr·λ) − lr · m̂ / (√v̂ + ε)`. */
export const createAdamW: OptimizerFactory<AdamWOptions> = (parameters, gradients, options, threads) => {
  const { beta1, beta2, epsilon, weightDecay } = options;
  const firstMoment = parameters.like();
  const secondMoment = parameters.like();
  const [p, g, m, v] = ['parameter', 'gradient', 'first', 'second'].map(flatVector);
  const [scale, correction, keep, rate] = ['scale', 'correction', 'keep', 'rate'].map(flatScalar);
  const scaled = multiply(g, scale);
  const first = add(multiply(m, beta1), multiply(scaled, 1 - beta1));
  const second = add(multiply(v, beta2), multiply(multiply(scaled, scaled), 1 - beta2));
  const denominator = add(multiply(sqrt(second), correction), epsilon);
  const pass = new FlatPass(
    {
      parameter: subtract(multiply(p, keep), divide(multiply(first, rate), denominator)),
      first,
      second,
    },
    parameters.memory,
    threads,
  );
  const vectors = {
    parameter: parameters.data,
    gradient: gradients.data,
    first: firstMoment.data,
    second: secondMoment.data,
  };
  return {
    state: new Map([
      ['first', firstMoment],
      ['second', secondMoment],
    ]),
    update: async ({ update, learningRate, gradientScale }) => {
      const scalars = {
        scale: gradientScale,
        correction: 1 / Math.sqrt(1 - beta2 ** update),
        rate: learningRate / (1 - beta1 ** update),
      };
      const { decayEnd } = parameters;
      const end = parameters.data.length;
      await pass.run(
        vectors,
        { ...scalars, keep: 1 - learningRate * weightDecay },
        { start: 0, end: decayEnd },
      );
      await pass.run(vectors, { ...scalars, keep: 1 }, { start: decayEnd, end });
    },
    release: () => pass.release(),
  };
};
