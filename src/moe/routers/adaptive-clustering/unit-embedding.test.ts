import { expect, test } from 'vitest';
import { layerContext } from '../../../../test/support/moe-context.js';
import { distance, run } from '../../../../test/support/numbers.js';
import { dot, matrix } from '../../../../test/support/reference-moe.js';
import { input } from '../../../graph/index.js';
import { nameParameters } from '../../../nn/index.js';
import { routerConformance } from '../../router.case.js';
import { UnitEmbeddingRouter } from './unit-embedding.js';

routerConformance({
  name: 'unit embeddings',
  create: (sizes) => new UnitEmbeddingRouter({ ...sizes, balanceCoefficient: 0.01 }),
  reference: ({ hiddenSize, numExperts, topK }, { hidden, parameters, mask = hidden.map(() => 1) }) => {
    const embeddings = matrix(parameters.get('embeddings')!, hiddenSize);
    const logits = hidden.map((row) => embeddings.map((e) => dot(row, e) / Math.hypot(...e)));
    const shares = (row: readonly number[]): number[] => {
      const sum = row.reduce((total, z) => total + Math.exp(z), 0);
      return row.map((z) => Math.exp(z) / sum);
    };
    const experts = logits.map((row) =>
      [...row.keys()].sort((a, b) => row[b] - row[a] || a - b).slice(0, topK),
    );
    const real = Math.max(
      1,
      mask.reduce((a, b) => a + b, 0),
    );
    const probabilities = logits.map(shares);
    let balance = 0;
    for (let e = 0; e < numExperts; e++) {
      const part = (of: (t: number) => number): number =>
        hidden.reduce((sum, _, t) => sum + (mask[t] * of(t)) / real, 0);
      balance +=
        numExperts * part((t) => Number(experts[t].includes(e)) / topK) * part((t) => probabilities[t][e]);
    }
    return {
      experts,
      gates: logits.map((row, t) => shares(experts[t].map((expert) => row[expert]))),
      probabilities,
      losses: { balance },
      observations: [[0]],
    };
  },
  permuteExperts: (parameters, order, { hiddenSize }) => {
    const rows = matrix(parameters.get('embeddings')!, hiddenSize);
    return new Map([['embeddings', Float64Array.from(order.flatMap((expert) => rows[expert]))]]);
  },
  skip: {
    'an expert that nobody chose gets no gradient from the gates':
      'a softmax over the chosen has none, and its weights have another name',
    'noise is for training only': 'there is no noise',
    'the backward pass sees the noise of the forward pass': 'there is no noise',
  },
});

function trace(tokens: number) {
  const router = new UnitEmbeddingRouter({ hiddenSize: 3, numExperts: 4, topK: 2, balanceCoefficient: 0 });
  const parameters = nameParameters(router, 'float64');
  return { parameters, routing: router.route(input('hidden', 'float64', [tokens, 3]), layerContext()) };
}

const embeddings = [1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 1, 1];

test('the length of an embedding says nothing, the length of a token does', async () => {
  const { routing } = trace(2);
  const longer = embeddings.map((value, i) => value * (i < 3 ? 7 : 1));
  const hidden = [3, 2, 1, 1.5, 1, 0.5];
  const outputs = { experts: routing.experts, gates: routing.gates };
  const a = await run(outputs, [
    ['hidden', hidden],
    ['embeddings', embeddings],
  ]);
  const b = await run(outputs, [
    ['hidden', hidden],
    ['embeddings', longer],
  ]);
  expect(b.experts).toEqual(a.experts);
  expect(distance(b.gates, a.gates)).toBeLessThan(1e-12);
  // z = 3, 2, 1 and 6/√3: the last one first, then 3; half of both for the second token.
  const gate = (difference: number): number => 1 / (1 + Math.exp(-difference));
  expect(a.experts).toEqual([3, 0, 3, 0]);
  expect(a.gates[0]).toBeCloseTo(gate(6 / Math.sqrt(3) - 3), 12);
  expect(a.gates[2]).toBeCloseTo(gate((6 / Math.sqrt(3) - 3) / 2), 12);
});

test('a logit that overflows counts as the smallest finite one of its token', async () => {
  const { routing } = trace(2);
  const { experts, gates } = await run({ experts: routing.experts, gates: routing.gates }, [
    ['hidden', [Infinity, 2, 1, 3, 2, 1]],
    ['embeddings', [...embeddings.slice(0, 9), -1, 2, 0]],
  ]);
  // Products of infinity with 0 are no numbers: of the first token nothing finite is left, so the lowest indices win.
  expect(experts.slice(0, 2)).toEqual([0, 1]);
  expect(gates.slice(0, 2)).toEqual([0.5, 0.5]);
  expect(experts.slice(2)).toEqual([0, 1]);
});

test('embeddings start orthogonal and at one length', () => {
  for (const [numExperts, hiddenSize] of [
    [4, 6],
    [6, 6],
    [5, 3],
  ]) {
    const router = new UnitEmbeddingRouter({ hiddenSize, numExperts, topK: 1, balanceCoefficient: 0 });
    const flat = new Float64Array(numExperts * hiddenSize);
    router.embeddings.initializer(5, flat);
    const rows = matrix(flat, hiddenSize);
    for (const row of rows) expect(Math.hypot(...row)).toBeCloseTo(1.5, 10);
    if (numExperts > hiddenSize) continue;
    rows.forEach((a, i) => rows.slice(i + 1).forEach((b) => expect(dot(a, b)).toBeCloseTo(0, 10)));
  }
});
