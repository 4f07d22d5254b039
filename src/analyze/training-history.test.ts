import { expect, test } from 'vitest';
import { trainingHistory } from './training-history.js';

const steps = [1, 2, 3, 4].map((step) => ({
  step,
  taskLoss: 5 - step,
  routing: [{ layer: '1', load: [step, 1], balance: 1 }],
}));

test('steps are averaged in spans, loads added; other lines are passed over', () => {
  const records = [
    ...steps.slice(0, 2),
    { step: 2, warning: 'layer 1: …' },
    { step: 2, validation: { loss: 3.5, perplexity: 33, bitsPerByte: 5, tokens: 9 } },
    ...steps.slice(2),
  ];
  expect(trainingHistory(records, 2)).toEqual({
    training: [
      { step: 2, loss: 3.5 },
      { step: 4, loss: 1.5 },
    ],
    validation: [{ step: 2, loss: 3.5, bitsPerByte: 5 }],
    load: [{ layer: '1', steps: [2, 4], shares: [[3 / 5, 2 / 5], [7 / 9, 2 / 9]] }], // prettier-ignore
  });
});

test('a dense run has no loads, an empty log nothing', () => {
  expect(trainingHistory([{ step: 1, taskLoss: 4 }]).load).toEqual([]);
  expect(trainingHistory([])).toEqual({ training: [], validation: [], load: [] });
});
