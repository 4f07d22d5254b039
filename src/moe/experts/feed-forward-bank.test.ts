import { expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../../test/support/numbers.js';
import { expertWeights, referenceExpert } from '../../../test/support/reference-moe.js';
import { input } from '../../graph/index.js';
import { nameParameters, normal, streamKey } from '../../nn/index.js';
import { activations, type ActivationName } from '../activations.js';
import { expertBankConformance } from '../expert-bank.case.js';
import { feedForward, FeedForwardBank } from './feed-forward-bank.js';

function check(activation: ActivationName, bias: boolean): void {
  expertBankConformance({
    name: `feed-forward, ${activation}${bias ? ', biases' : ''}`,
    create: (sizes) => new FeedForwardBank({ ...sizes, activation, bias }, normal(1), normal(1)),
    createWithDropout: (sizes, expertDropout) =>
      new FeedForwardBank({ ...sizes, activation, bias, expertDropout }, normal(1), normal(1)),
    reference: (x, expert, parameters, sizes) => {
      const named = new Map([...parameters].map(([name, data]) => [`experts.${name}`, data]));
      return referenceExpert(x, expertWeights(named, expert, sizes), activation);
    },
  });
}

check('relu', false);
check('gelu', true);
check('swiglu', true);

test.each(Object.keys(activations) as ActivationName[])(
  '%s in float32 equals its formula',
  async (activation) => {
    const sizes = { numExperts: 1, hiddenSize: 3, intermediateSize: 5 };
    const bank = new FeedForwardBank({ ...sizes, activation }, normal(1), normal(1));
    const parameters = nameParameters(bank);
    expect([...parameters.keys()]).toEqual([
      ...(activations[activation].gated ? ['gate'] : []),
      'up',
      'down',
    ]);
    const data = randomParameters(parameters, 1, 1);
    const hidden = input('hidden', 'float32', [1, 3]);
    const [output] = bank.forward({ pieces: [hidden], totalRows: 1 }, layerContext());
    const x = randomNumbers(2, 3);
    const actual = await run({ output: output }, [...data, ['hidden', x]], 'float32');
    const named = new Map([...data].map(([name, numbers]) => [`experts.${name}`, numbers]));
    const expected = referenceExpert([...x], expertWeights(named, 0, sizes), activation);
    expect(distance(actual.output, expected)).toBeLessThan(1e-6);
  },
);

test('biases start at zero, weights by their own rules', () => {
  const sizes = { numExperts: 2, hiddenSize: 3, intermediateSize: 5 };
  const bank = new FeedForwardBank({ ...sizes, activation: 'geglu', bias: true }, normal(2), normal(3));
  const shapes = [...bank.parameters()].map(([name, { shape }]) => [name, shape]);
  expect(shapes).toEqual([
    ['gate', [2, 3, 5]],
    ['up', [2, 3, 5]],
    ['down', [2, 5, 3]],
    ['upBias', [2, 5]],
    ['downBias', [2, 3]],
  ]);
  const bias = new Float32Array(10).fill(9);
  bank.upBias!.initializer(1, bias);
  expect([...bias]).toEqual(new Array<number>(10).fill(0));
});

test.each([
  // c² = 2 / 8. Up reads 50 numbers; down reads 20 of one expert, or 16 · 20 of them all.
  ['sigmaMoe', Math.sqrt(0.25 / 50), Math.sqrt(0.25 / 320)],
  ['sigmaMoeStandard', Math.sqrt(0.25 / 50), Math.sqrt(0.25 / 20)],
  ['model', 1, 1],
])('%s weights start with the spread of their rule', (initialization, up, down) => {
  const sizes = {
    ...layerSizes(50, 20),
    numExperts: 16,
    topK: 4,
    numLayers: 8,
    activation: 'swiglu' as const,
  };
  const options = feedForward.schema.parse({ kind: 'feedForward', initialization });
  const spreads = [...feedForward.create(options, sizes).parameters()].map(([name, parameter]) => {
    const numbers = new Float32Array(parameter.size);
    parameter.initializer(streamKey(name), numbers);
    return [name, Math.sqrt(numbers.reduce((total, x) => total + x * x, 0) / numbers.length)] as const;
  });
  expect(spreads.map(([name]) => name)).toEqual(['gate', 'up', 'down']);
  for (const [name, spread] of spreads) {
    expect(Math.abs(spread / (name === 'down' ? down : up) - 1), name).toBeLessThan(0.02);
  }
});
