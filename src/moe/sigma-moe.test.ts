/**
 * Edge cases of σ-MoE as a whole layer (arXiv 2310.10837): sigmoid router, no capacity, experts without biases.
 */
import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { layerContext, layerSizes } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { expertWeights, matrix, rowTimes, type Matrix } from '../../test/support/reference-moe.js';
import { largestOf, logistic, logitsOf } from '../../test/support/reference-router.js';
import { gradients, input, multiply, sum } from '../graph/index.js';
import { nameParameters, NoiseInputs, type Module } from '../nn/index.js';
import { createSparseLayer, sparseSchema } from './config.js';
import type { FeedForward } from './feed-forward.js';

const hiddenSize = 4;
const intermediateSize = 6;

function create(numExperts: number, topK: number, router: object = {}): FeedForward & Module {
  const options = sparseSchema.parse({
    numExperts,
    topK,
    router: { kind: 'sigmoid', ...router },
    experts: { kind: 'feedForward', initialization: 'sigmaMoe' },
  });
  return createSparseLayer(options, layerSizes(hiddenSize, intermediateSize));
}

/** The dense sum with weights on the experts' hidden units: `Σ_e W_2 (g_e · ReLU(W_1 x))`. */
function gatedSum(hidden: Matrix, parameters: ReadonlyMap<string, Float64Array>, topK: number): number[] {
  const scores = logitsOf({ hidden, parameters }, 'router.classifier.weight').map((row) => row.map(logistic));
  const chosen = largestOf(scores, topK);
  return hidden.flatMap((x, t) => {
    const y = x.map(() => 0);
    for (const expert of chosen[t]) {
      const { up, down } = expertWeights(parameters, expert, { hiddenSize, intermediateSize });
      const inner = rowTimes(x, up).map((value) => Math.max(value, 0) * scores[t][expert]);
      rowTimes(inner, down).forEach((value, i) => (y[i] += value));
    }
    return y;
  });
}

async function outputOf(layer: FeedForward & Module, hidden: Matrix) {
  const parameters = randomParameters(nameParameters(layer, 'float64'), 3, 1);
  const rows = input('hidden', 'float64', [hidden.length, hiddenSize]);
  const { output } = layer.forward(rows, layerContext());
  const result = await run({ output }, [...parameters, ['hidden', Float64Array.from(hidden.flat())]]);
  return { output: result.output, parameters };
}

describe('the layer is a sum of gated experts, wherever the gate multiplies', () => {
  test.each([
    ['every expert chosen', 5, 5, 7],
    ['one expert per token', 5, 1, 7],
    ['a single token', 5, 2, 1],
    ['a single expert', 1, 1, 7],
    ['more experts than choices: some stay without tokens', 16, 2, 3],
  ])('%s', async (_, numExperts, topK, tokens) => {
    const hidden = matrix(randomNumbers(1, tokens * hiddenSize), hiddenSize);
    const { output, parameters } = await outputOf(create(numExperts, topK), hidden);
    expect(distance(output, gatedSum(hidden, parameters, topK))).toBeLessThan(1e-12);
  });
});

test('an expert without tokens gets no gradient at all, neither does its row of the router', async () => {
  const layer = create(6, 1, { entropyCoefficient: 0 });
  const named = nameParameters(layer, 'float64');
  const parameters = randomParameters(named, 3, 1);
  const hidden = randomNumbers(1, 8 * hiddenSize, 0, 1);
  parameters
    .get('router.classifier.weight')!
    .subarray(5 * hiddenSize)
    .fill(-3);
  const { output } = layer.forward(input('hidden', 'float64', [8, hiddenSize]), layerContext());
  const names = ['router.classifier.weight', 'experts.up', 'experts.down'];
  const derived = gradients(
    sum(multiply(output, output)),
    names.map((name) => named.get(name)!.tensor),
  );
  const results = await run(Object.fromEntries(names.map((name, i) => [name, derived[i]])), [
    ...parameters,
    ['hidden', hidden],
  ]);
  for (const name of names) {
    const perExpert = matrix(results[name], results[name].length / 6);
    expect(
      perExpert[5].every((value) => value === 0),
      name,
    ).toBe(true);
    expect(
      perExpert.flat().some((value) => value !== 0),
      name,
    ).toBe(true);
  }
});

test('equal logits go to the lowest experts', async () => {
  const layer = create(6, 3);
  const parameters = randomParameters(nameParameters(layer, 'float64'), 3, 1);
  const rows = matrix(parameters.get('router.classifier.weight')!, hiddenSize);
  // Experts 1, 2, 4 and 5 are the same to the router; 0 and 3 are always below them.
  const same = [1, 1, 1, 1];
  const weight = rows.map((_, expert) => (expert % 3 === 0 ? [-1, -1, -1, -1] : same)).flat();
  const { records } = layer.forward(input('hidden', 'float64', [3, hiddenSize]), layerContext());
  const { experts } = await run({ experts: records[0].experts }, [
    ['router.classifier.weight', weight],
    ['hidden', randomNumbers(1, 12, 0, 1)],
  ]);
  expect(matrix(experts, 3)).toEqual([
    [1, 2, 4],
    [1, 2, 4],
    [1, 2, 4],
  ]);
});

test('evaluation ignores expert dropout; training drops experts token by token', async () => {
  const hidden = matrix(randomNumbers(1, 40 * hiddenSize), hiddenSize);
  const [plain, dropping] = [create(5, 5), create(5, 5, { expertDropout: 0.5 })];
  expect((await outputOf(dropping, hidden)).output).toEqual((await outputOf(plain, hidden)).output);

  const parameters = randomParameters(nameParameters(dropping, 'float64'), 3, 1);
  const noise = new NoiseInputs();
  const rows = input('hidden', 'float64', [40, hiddenSize]);
  const { records } = dropping.forward(rows, layerContext({ training: true, noise }));
  const buffers = { 'noise.layer.expertDropout': new Float64Array(200) };
  noise.fill(1, 1, buffers);
  const { gates } = await run({ gates: records[0].gates }, [
    ...parameters,
    ...Object.entries(buffers),
    ['hidden', Float64Array.from(hidden.flat())],
  ]);
  const dropped = matrix(gates, 5).map((row) => row.filter((gate) => gate === 0).length);
  const drawn = matrix(buffers['noise.layer.expertDropout'], 5);
  expect(dropped).toEqual(drawn.map((row) => row.filter((value) => value < 0.5).length));
  expect(new Set(dropped).size).toBeGreaterThan(3);
});
