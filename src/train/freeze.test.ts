import { describe, expect, test } from 'vitest';
import { normal, Parameter, ParameterArena } from '../nn/index.js';
import { createWeights, matchesPattern } from './freeze.js';

test.each([
  ['blocks.0.attention.query.weight', 'blocks.0.*', true],
  ['blocks.10.attention.query.weight', 'blocks.1.*', false],
  ['blocks.0.attention.query.weight', '*.query.*', true],
  ['blocks.0.attention.query.weight', 'blocks.*.query.weight', true],
  ['embedding.weight', 'embedding.weight', true],
  ['embedding.weight', 'embedding', false],
  ['embedding.weight', 'embedding.w', false],
  // A dot is a dot.
  ['embeddingXweight', 'embedding.weight', false],
  ['a(b)[c]+', 'a(b)[c]+', true],
  ['anything', '*', true],
])('%s fits %s: %s', (name, pattern, fits) => {
  expect(matchesPattern(name, pattern)).toBe(fits);
});

describe('createWeights', () => {
  const parameters = new Map([
    ['embedding.weight', new Parameter([4, 2], normal(1))],
    ['blocks.0.weight', new Parameter([2, 2], normal(1))],
    ['blocks.0.bias', new Parameter([2], normal(1))],
    ['blocks.1.weight', new Parameter([2, 2], normal(1))],
  ]);

  test('frozen parameters lie outside the arena with the same first values', () => {
    const all = createWeights(parameters, [], 5);
    const some = createWeights(parameters, ['embedding.*', 'blocks.*.bias'], 5);
    expect([...some.frozen.keys()]).toEqual(['embedding.weight', 'blocks.0.bias']);
    expect([...some.trainable.views.keys()]).toEqual(['blocks.0.weight', 'blocks.1.weight']);
    expect(some.trainable).toBeInstanceOf(ParameterArena);
    expect([...some.all.keys()]).toEqual([...parameters.keys()]);
    expect(all.frozen.size).toBe(0);
    for (const name of parameters.keys()) {
      expect(some.all.get(name), name).toEqual(all.all.get(name));
      expect(some.all.get(name)!.some((value) => value !== 0)).toBe(true);
    }
    expect(some.all.get('blocks.1.weight')).toBe(some.trainable.views.get('blocks.1.weight'));
  });

  test('another seed gives other values', () => {
    const [one, two] = [1, 2].map((seed) => createWeights(parameters, [], seed).trainable.data);
    expect(one).not.toEqual(two);
  });

  test('a pattern that fits nothing is refused with examples of names', () => {
    expect(() => createWeights(parameters, ['blocks.0.*', 'block.1.*'], 1)).toThrow(
      "train.freeze: 'block.1.*' fits no parameter; parameters are named like embedding.weight, blocks.0.weight, blocks.0.bias",
    );
  });

  test('a model without anything to train is refused', () => {
    expect(() => createWeights(parameters, ['embedding.*', 'blocks.*'], 1)).toThrow(
      'train.freeze: every parameter is frozen, so nothing would train',
    );
  });

  test('a model that no memory holds is refused with its size', () => {
    const giant = new Map([['table', new Parameter([1e6, 1e6], normal(1))]]);
    expect(() => createWeights(giant, [], 1)).toThrow(
      'the model has 1000000000000 parameters to train: 16000.0 GB of weights, gradients and moments cannot be allocated; make it smaller',
    );
  });
});
