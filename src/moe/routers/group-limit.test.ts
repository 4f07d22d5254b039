import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { run } from '../../../test/support/numbers.js';
import { input } from '../../graph/index.js';
import { normal } from '../../nn/index.js';
import { BiasBalancedRouter } from './bias-balanced.js';
import { limitToGroups, type ExpertGroups } from './group-limit.js';
import { SoftmaxTopKRouter } from './softmax-top-k.js';

const experts = (groups: ExpertGroups, scores: readonly number[]): Promise<number[]> => {
  const leaf = input('scores', 'float64', [1, scores.length]);
  return run({ limited: limitToGroups(leaf, groups) }, [['scores', [...scores]]]).then(({ limited }) =>
    limited.flatMap((score, expert) => (score > -1e29 ? [expert] : [])),
  );
};

describe('groups that a token may choose from', () => {
  const scores = [0.9, 0.1, 0.5, 0.6, 0.3, 0.2];
  test.each<[string, ExpertGroups, number[]]>([
    ['the largest score decides', { count: 3, chosen: 1, score: 'largest' }, [0, 1]],
    ['the two best together decide', { count: 3, chosen: 1, score: 'topTwo' }, [2, 3]],
    ['several groups', { count: 3, chosen: 2, score: 'topTwo' }, [0, 1, 2, 3]],
    ['wide groups', { count: 2, chosen: 1, score: 'topTwo' }, [0, 1, 2]],
    ['all groups limit nothing', { count: 3, chosen: 3, score: 'largest' }, [0, 1, 2, 3, 4, 5]],
  ])('%s', async (_, groups, wanted) => expect(await experts(groups, scores)).toEqual(wanted));

  test('equal groups go to the lowest index', async () =>
    expect(await experts({ count: 3, chosen: 2, score: 'topTwo' }, [1, 1, 1, 1, 1, 1])).toEqual([
      0, 1, 2, 3,
    ]));

  test('negative scores are limited all the same', async () =>
    expect(
      await experts({ count: 2, chosen: 1, score: 'largest' }, [
        ...randomNumbers(1, 4, -9, -8),
        -1,
        -2,
        -3,
        -4,
      ]),
    ).toEqual([4, 5, 6, 7]));
});

test.each<[string, object, string]>([
  ['groups that do not divide', { count: 4, chosen: 1 }, 'numExperts 6 is not divisible by groups.count 4'],
  ['more chosen than there are', { count: 3, chosen: 4 }, 'groups.chosen 4 is more than groups.count 3'],
  [
    'too few experts in them',
    { count: 6, chosen: 1 },
    'topK 2 is more than the 1 experts of groups.chosen 1',
  ],
  ['no two best', { count: 6, chosen: 3, score: 'topTwo' }, 'groups of one expert have no two best'],
])('%s: refused', (_, settings, message) => {
  const sizes = { hiddenSize: 4, numExperts: 6, topK: 2 };
  const groups = { score: 'largest', ...settings } as ExpertGroups;
  expect(() => new SoftmaxTopKRouter({ ...sizes, groups }, normal(1))).toThrow(message);
  expect(() => new BiasBalancedRouter({ ...sizes, groups }, normal(1))).toThrow(message);
});
