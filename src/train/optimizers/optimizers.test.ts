import { expect, test } from 'vitest';
import { normal, Parameter, ParameterArena } from '../../nn/index.js';
import { optimizerConformance } from '../optimizer.case.js';
import { createOptimizer } from './index.js';

const adamw = { kind: 'adamw', beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1 } as const;
const sgd = { kind: 'sgd', momentum: 0.9, weightDecay: 0.01 } as const;

// The loops are those of torch.optim.AdamW and torch.optim.SGD in their documentation.
optimizerConformance({
  name: 'adamw',
  create: (parameters, gradients, threads) => createOptimizer(adamw, parameters, gradients, threads),
  reference: ({ values, decays, state }, gradient, { update, learningRate, gradientScale }) => {
    const { beta1, beta2, epsilon, weightDecay } = adamw;
    const first = (state['first'] ??= new Float64Array(values.length));
    const second = (state['second'] ??= new Float64Array(values.length));
    for (let i = 0; i < values.length; i++) {
      const g = gradient[i] * gradientScale;
      if (decays) values[i] -= learningRate * weightDecay * values[i];
      first[i] = beta1 * first[i] + (1 - beta1) * g;
      second[i] = beta2 * second[i] + (1 - beta2) * g * g;
      const firstHat = first[i] / (1 - beta1 ** update);
      const secondHat = second[i] / (1 - beta2 ** update);
      values[i] -= (learningRate * firstHat) / (Math.sqrt(secondHat) + epsilon);
    }
  },
});

for (const momentum of [sgd.momentum, 0]) {
  optimizerConformance({
    name: momentum > 0 ? 'sgd with momentum' : 'sgd without momentum',
    create: (parameters, gradients, threads) =>
      createOptimizer({ ...sgd, momentum }, parameters, gradients, threads),
    reference: ({ values, decays, state }, gradient, { update, learningRate, gradientScale }) => {
      const velocity = momentum > 0 ? (state['velocity'] ??= new Float64Array(values.length)) : undefined;
      for (let i = 0; i < values.length; i++) {
        let direction = gradient[i] * gradientScale + (decays ? sgd.weightDecay * values[i] : 0);
        if (velocity) {
          direction += update === 1 ? 0 : momentum * velocity[i];
          velocity[i] = direction;
        }
        values[i] -= learningRate * direction;
      }
    },
  });
}

test('plain descent keeps no state, momentum one array, AdamW two', () => {
  const parameters = new Map([['weight', new Parameter([4, 4], normal(1))]]);
  const states = [{ ...sgd, momentum: 0 }, sgd, adamw].map((options) => {
    const weights = ParameterArena.allocate(parameters);
    return [...createOptimizer(options, weights, weights.like(), undefined).state.keys()];
  });
  expect(states).toEqual([[], ['velocity'], ['first', 'second']]);
});
