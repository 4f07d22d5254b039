/**
 * Stochastic gradient descent with momentum and weight decay.
 * @module
 */
import { add, multiply, subtract } from '../../graph/index.js';
import { FlatPass, flatScalar, flatVector } from '../flat-pass.js';
import type { OptimizerFactory } from '../optimizer.js';

/** Settings of {@link createSgd}. */
export interface SgdOptions {
  /** 0 keeps no state. */
  readonly momentum: number;
  /** Added to the gradient of matrices, as in PyTorch's SGD. */
  readonly weightDecay: number;
}

/** `b ← momentum·b + g + λ·θ`, `θ ← θ − lr·b`. */
export const createSgd: OptimizerFactory<SgdOptions> = (parameters, gradients, options, threads) => {
  const { momentum, weightDecay } = options;
  const velocity = momentum > 0 ? parameters.like() : undefined;
  const [p, g, b] = ['parameter', 'gradient', 'velocity'].map(flatVector);
  const [scale, decay, rate] = ['scale', 'decay', 'rate'].map(flatScalar);
  const direction = add(multiply(g, scale), multiply(p, decay));
  const next = velocity ? add(multiply(b, momentum), direction) : direction;
  const parameter = subtract(p, multiply(next, rate));
  const pass = new FlatPass(
    velocity ? { parameter, velocity: next } : { parameter },
    parameters.memory,
    threads,
  );
  const vectors = {
    parameter: parameters.data,
    gradient: gradients.data,
    ...(velocity ? { velocity: velocity.data } : {}),
  };
  return {
    state: new Map(velocity ? [['velocity', velocity]] : []),
    update: async ({ learningRate, gradientScale }) => {
      const scalars = { scale: gradientScale, rate: learningRate };
      const { decayEnd } = parameters;
      await pass.run(vectors, { ...scalars, decay: weightDecay }, { start: 0, end: decayEnd });
      await pass.run(vectors, { ...scalars, decay: 0 }, { start: decayEnd, end: parameters.data.length });
    },
    release: () => pass.release(),
  };
};
