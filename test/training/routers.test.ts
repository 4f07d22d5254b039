/**
 * Routers whose training has parts that others lack: places given out by experts, noise alone, state that follows.
 * @module
 */
import { expect, test } from 'vitest';
import { tinyTrainer } from '../support/tiny-training.js';

type Options = Readonly<Record<string, unknown>>;

async function train(sparse: Options, train: Options = {}) {
  const { trainer } = await tinyTrainer({
    model: { numLayers: 3, sparse: { numExperts: 4, topK: 2, ...sparse } },
    train: { steps: 30, ...train },
  });
  const losses: number[] = [];
  for (let step = 0; step < 30; step++) losses.push((await trainer.update()).taskLoss);
  const states = [...trainer.weights.states].map(
    (name) => [name, Array.from(trainer.weights.frozen.get(name)!)] as const,
  );
  await trainer.release();
  return { losses, states };
}

test.each<Options>([
  { router: { kind: 'expertChoice' } },
  { router: { kind: 'expertChoice', evaluation: 'experts', capacityFactor: 1.5, group: 'sequence' } },
  { router: { kind: 'hash' } },
  { router: { kind: 'random' } },
  { router: { kind: 'adaptiveClustering', preset: 'released-lm' } },
  { router: { kind: 'adaptiveClustering', preset: 'released-vision' } },
  { router: { kind: 'adaptiveClustering', stats: 'prefix' } },
])('%o learns', async (sparse) => {
  const { losses, states } = await train(sparse);
  expect(states).toEqual([]);
  expect(losses.at(-1)).toBeLessThan(0.75 * losses[0]);
});

/** Cluster 0 is never above the highest choice: it is there in every step. */
const running = { router: { kind: 'adaptiveClustering', minMembers: 0 } };

test('running statistics of each layer follow training, but for the first, which has none', async () => {
  const { losses, states } = await train(running);
  expect(losses.at(-1)).toBeLessThan(0.75 * losses[0]);
  expect(states.map(([name]) => name)).toEqual(
    [0, 1, 2].map((layer) => `blocks.${layer}.feedForward.router.statistics`),
  );
  const presence = states.map(([, values]) => values[16]);
  expect(presence[0]).toBe(0);
  // 1 − 0.99³⁰
  for (const layer of [1, 2]) expect(presence[layer]).toBeCloseTo(0.2603, 4);
});

test('one shared router keeps one average of its layers', async () => {
  const { losses, states } = await train({ ...running, routerSharing: {} });
  expect(losses.at(-1)).toBeLessThan(0.75 * losses[0]);
  expect(states.map(([name]) => name)).toEqual(['blocks.0.feedForward.router.statistics']);
  const [[, values]] = states;
  expect(values.every(Number.isFinite)).toBe(true);
  expect(values[16]).toBeCloseTo(0.2603, 4);
  expect(values.slice(0, 16).every((sum) => sum > 0)).toBe(true);
});
