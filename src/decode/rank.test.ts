import { expect, test } from 'vitest';
import { fillNormal } from '../nn/index.js';
import { rank } from './rank.js';

test('ids by falling score, equal scores by rising id', () => {
  const special = [0, -0, 1, -1, Infinity, -Infinity, 1e-45, -1e-45, 3e38, -3e38, 1, 0];
  const noise = new Float32Array(5000);
  fillNormal(7, noise);
  // Many ties: rounded to quarters.
  const scores = Float32Array.from([...special, ...noise.map((x) => Math.round(4 * x) / 4)]);
  const expected = Array.from(scores, (score, id) => ({ score, id }))
    .sort((a, b) => b.score - a.score || a.id - b.id)
    .map(({ id }) => id);
  expect(Array.from(rank(scores))).toEqual(expected);
});

test('nothing is ranked as nothing, and NaN is refused by its id', () => {
  expect(rank(new Float32Array(0))).toHaveLength(0);
  expect(() => rank(Float32Array.of(1, NaN))).toThrow('the score of token 1 is not a number');
});

test('the first ones of many are those of all', () => {
  const scores = Float32Array.from({ length: 5000 }, (_, i) => Math.round(20 * Math.sin(i * 7.3)) / 4);
  const all = rank(scores);
  for (const count of [1, 2, 17, 256, 625, 626, 5000, 6000])
    expect(rank(scores, count)).toEqual(all.subarray(0, count));
});
