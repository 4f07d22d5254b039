import { afterEach, expect, test } from 'vitest';
import { tinyTrainer } from '../../test/support/tiny-training.js';
import type { Trainer } from './trainer.js';

let trainer: Trainer | undefined;
afterEach(async () => trainer?.release());

const routers = [
  { kind: 'softmax', exploration: 'sample', inputDropout: 0.1, entropyCoefficient: 1e-3 },
  { kind: 'sigmoid', expertDropout: 0.2 },
  { kind: 'noisyTopK' },
  { kind: 'sBase', group: 'sequence', expertDropout: 0.1 },
  { kind: 'biasBalanced', scale: 2.5, sequenceBalanceCoefficient: 1e-4 },
];

test.each(
  routers.flatMap((router) =>
    ['dropless', 'capacity'].map((dispatch) => [router.kind, dispatch, router] as const),
  ),
)('a %s router with %s dispatch learns a text', async (_kind, dispatch, router) => {
  const sparse = { numExperts: 4, topK: 2, router, dispatch: { kind: dispatch } };
  ({ trainer } = await tinyTrainer({ model: { sparse }, train: { steps: 40 } }));
  const before = await trainer.evaluate();
  for (let i = 0; i < 40; i++) await trainer.update();
  expect((await trainer.evaluate()).loss).toBeLessThan(before.loss - 0.5);
});
