import { describe, expect, test } from 'vitest';
import { numbersOf } from '../../../test/support/evaluate.js';
import { gradientError, randomNumbers } from '../../../test/support/gradient-check.js';
import { constant, input, type Tensor } from '../../graph/index.js';
import { predictorLoss, predictorLossSchema, type PredictorLossOptions } from './losses.js';

const [tokens, experts, width] = [4, 6, 3];
const first = Int32Array.of(1, 5, 0, 2);
const candidates = Int32Array.of(1, 0, 3, 5, 2, 4, 0, 1, 2, 2, 3, 0);
const shares = Float64Array.of(0.6, 0.3, 0.1, 0.5, 0.25, 0.25, 0.9, 0.1, 0, 0.4, 0.4, 0.2);
const mask = Float64Array.of(1, 1, 0, 1);

const trace = (logits: Tensor, options: PredictorLossOptions): Tensor =>
  predictorLoss(
    logits,
    {
      first: input('first', 'int32', [tokens]),
      candidates: input('candidates', 'int32', [tokens, width]),
      shares: input('shares', 'float64', [tokens, width]),
    },
    input('mask', 'float64', [tokens]),
    options,
  );

function softmax(values: readonly number[]): number[] {
  const largest = Math.max(...values);
  const raised = values.map((value) => Math.exp(value - largest));
  const sum = raised.reduce((a, b) => a + b, 0);
  return raised.map((value) => value / sum);
}

/** The sums of the definition, token by token. */
function reference(logits: Float64Array, options: PredictorLossOptions): number {
  let total = 0;
  for (let t = 0; t < tokens; t++) {
    if (mask[t] === 0) continue;
    const row = [...logits.subarray(t * experts, (t + 1) * experts)];
    const hard = -Math.log(softmax(row)[first[t]]);
    const inside = Array.from({ length: width }, (_, j) => t * width + j);
    const p = softmax(inside.map((at) => row[candidates[at]]));
    const q = inside.map((at) => shares[at]);
    if (options.kind === 'crossEntropy') total += hard;
    else {
      const l1 = q.reduce((sum, share, j) => sum + Math.abs(p[j] - share) / width, 0);
      const kl = q.reduce((sum, share, j) => sum + (share > 0 ? share * Math.log(share / p[j]) : 0), 0);
      total += options.crossEntropyWeight * hard + (options.distance === 'l1' ? l1 : kl);
    }
  }
  return total / 3;
}

describe.each([
  { kind: 'crossEntropy' },
  { kind: 'truncatedDistillation' },
  { kind: 'truncatedDistillation', crossEntropyWeight: 0 },
  { kind: 'truncatedDistillation', distance: 'kl', crossEntropyWeight: 0.5 },
])('%o', (given) => {
  const options = predictorLossSchema.parse(given);

  test('is its definition', async () => {
    const logits = randomNumbers(1, tokens * experts, -2, 2);
    const feeds = { logits, first, candidates, shares, mask };
    const used = options.kind === 'crossEntropy' ? { logits, first, mask } : feeds;
    const hardless = options.kind !== 'crossEntropy' && options.crossEntropyWeight === 0;
    const { first: _first, ...rest } = feeds;
    const [value] = await numbersOf(
      trace(input('logits', 'float64', [tokens, experts]), options),
      hardless ? rest : used,
    );
    expect(value).toBeCloseTo(reference(logits, options), 10);
  });

  test('has the right gradient', async () => {
    const constants = (logits: Tensor): Tensor => {
      const teacher = {
        first: constant('int32', [tokens], first),
        candidates: constant('int32', [tokens, width], candidates),
        shares: constant('float64', [tokens, width], shares),
      };
      return predictorLoss(logits, teacher, constant('float64', [tokens], mask), options);
    };
    const operand = { shape: [tokens, experts], data: randomNumbers(2, tokens * experts, -2, 2) };
    expect(await gradientError(([logits]) => constants(logits), [operand], 3)).toBeLessThan(1e-6);
  });
});
