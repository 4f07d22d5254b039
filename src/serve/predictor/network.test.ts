import { describe, expect, test } from 'vitest';
import { evaluate } from '../../../test/support/evaluate.js';
import { randomNumbers } from '../../../test/support/gradient-check.js';
import { input, type Tensor } from '../../graph/index.js';
import { nameParameters } from '../../nn/index.js';
import { RoutingPredictor } from './network.js';
import { predictorSchema, type PredictorOptions } from './options.js';

const [batch, time, width] = [2, 6, 4];
const layers = [
  { name: 'encoder.1', layerIndex: 1, numExperts: 5, topK: 1 },
  { name: 'encoder.3', layerIndex: 3, numExperts: 7, topK: 2 },
];

const optionsOf = (change: Partial<PredictorOptions> = {}): PredictorOptions =>
  predictorSchema.parse({ embeddingSize: width, hiddenSize: 3, layers, ...change });

interface Ran {
  readonly logits: readonly Float64Array[];
  readonly weights: Readonly<Record<string, Float64Array>>;
}

/** Runs over rows of tokens in double precision; states are made large so that attention chooses. */
async function run(
  options: PredictorOptions,
  x: Float64Array,
  mask?: Float64Array,
  length = time,
): Promise<Ran> {
  const network = new RoutingPredictor(options);
  const parameters = nameParameters(network, 'float64');
  const weights = Object.fromEntries(
    [...parameters].map(([name, { size }], i) => [name, randomNumbers(i + 1, size, -2, 2)]),
  );
  const logits = network.forward(
    input('x', 'float64', [batch, length, width]),
    mask && input('mask', 'float64', [batch, length]),
  );
  const outputs = Object.fromEntries<Tensor>(logits.map((tensor, l) => [`l${l}`, tensor]));
  const feeds = { x, ...(mask ? { mask } : {}), ...weights };
  const results = await evaluate(outputs, feeds);
  return { logits: logits.map((_, l) => results[`l${l}`] as Float64Array), weights };
}

type Matrix = number[][];

const rowsOf = (data: Float64Array, height: number): Matrix =>
  Array.from({ length: height }, (_, i) => [
    ...data.subarray((i * data.length) / height, ((i + 1) * data.length) / height),
  ]);

/** `x Wᵀ + b` for one row. */
const affine = (x: readonly number[], weight: Float64Array, bias: Float64Array): number[] =>
  rowsOf(weight, bias.length).map((row, i) => row.reduce((sum, w, j) => sum + w * x[j], bias[i]));

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

function project(scores: readonly number[]): number[] {
  const sorted = [...scores].sort((a, b) => b - a);
  let [running, threshold] = [0, 0];
  sorted.forEach((value, i) => {
    running += value;
    if (1 + (i + 1) * value > running) threshold = (running - 1) / (i + 1);
  });
  return scores.map((value) => Math.max(0, value - threshold));
}

/** SiDA's equations over one text, one number at a time. */
function reference(x: Matrix, weights: Ran['weights'], causal: boolean): Matrix[] {
  const at = (name: string): Float64Array => weights[name];
  const compressed = x.map((row) =>
    affine(row, at('compression.weight'), at('compression.bias')).map((v) => Math.max(0, v)),
  );
  let states = compressed;
  for (const layer of [0, 1]) {
    const size = states[0].length;
    let [hidden, cell] = [new Array<number>(size).fill(0), new Array<number>(size).fill(0)];
    states = states.map((row) => {
      const fromInput = affine(row, at(`recurrent.${layer}.input`), at(`recurrent.${layer}.bias`));
      const recurrent = rowsOf(at(`recurrent.${layer}.recurrent`), 4 * size);
      const sums = fromInput.map((v, i) => recurrent[i].reduce((sum, u, j) => sum + u * hidden[j], v));
      cell = cell.map(
        (c, i) => sigmoid(sums[size + i]) * c + sigmoid(sums[i]) * Math.tanh(sums[2 * size + i]),
      );
      hidden = cell.map((c, i) => sigmoid(sums[3 * size + i]) * Math.tanh(c));
      return hidden;
    });
  }
  return states.map((query, t) => {
    const seen = causal ? states.slice(0, t + 1) : states;
    const shares = project(seen.map((key) => key.reduce((sum, k, i) => sum + k * query[i], 0)));
    const context = query.map((_, i) => seen.reduce((sum, key, s) => sum + shares[s] * key[i], 0));
    const residual = affine(compressed[t], at('residual.weight'), at('residual.bias'));
    const joined = context.map((c, i) => c + residual[i]);
    return layers.map((_, l) => affine(joined, at(`heads.${l}.weight`), at(`heads.${l}.bias`)));
  });
}

const x = randomNumbers(77, batch * time * width, -2, 2);

describe.each([false, true])('causal: %s', (causal) => {
  test('is the plain loop of the paper', async () => {
    const { logits, weights } = await run(optionsOf({ causal }), x);
    for (let text = 0; text < batch; text++) {
      const rows = rowsOf(x.subarray(text * time * width, (text + 1) * time * width), time);
      reference(rows, weights, causal).forEach((heads, t) =>
        heads.forEach((values, l) => {
          values.forEach((value, e) =>
            expect(logits[l][(text * time + t) * values.length + e]).toBeCloseTo(value, 10),
          );
        }),
      );
    }
  });

  test('padding behind a text changes nothing', async () => {
    const short = 4;
    const cut = new Float64Array(batch * short * width);
    const mask = new Float64Array(batch * time);
    for (let text = 0; text < batch; text++) {
      cut.set(x.subarray(text * time * width, (text * time + short) * width), text * short * width);
      mask.fill(1, text * time, text * time + short);
    }
    const options = optionsOf({ causal });
    const padded = await run(options, x, mask);
    const alone = await run(options, cut, undefined, short);
    layers.forEach(({ numExperts }, l) => {
      for (let text = 0; text < batch; text++) {
        for (let i = 0; i < short * numExperts; i++) {
          const value = padded.logits[l][text * time * numExperts + i];
          expect(value).toBeCloseTo(alone.logits[l][text * short * numExperts + i], 12);
        }
      }
    });
  });
});

/** Largest change of the logits of the first `known` tokens when those after them change. */
async function leak(options: PredictorOptions, known: number): Promise<number> {
  const changed = x.slice();
  for (let text = 0; text < batch; text++)
    changed.fill(1.5, (text * time + known) * width, (text + 1) * time * width);
  const [before, after] = [await run(options, x), await run(options, changed)];
  let largest = 0;
  layers.forEach(({ numExperts }, l) => {
    for (let text = 0; text < batch; text++) {
      for (let i = 0; i < known * numExperts; i++) {
        const at = text * time * numExperts + i;
        largest = Math.max(largest, Math.abs(before.logits[l][at] - after.logits[l][at]));
      }
    }
  });
  return largest;
}

test('a causal predictor does not see later tokens, and the paper’s does', async () => {
  for (const known of [1, 3, 5]) expect(await leak(optionsOf({ causal: true }), known)).toBe(0);
  expect(await leak(optionsOf(), 3)).toBeGreaterThan(1e-3);
});

test('has the size of the paper’s at its sizes', () => {
  const paper = predictorSchema.parse({
    embeddingSize: 768,
    layers: Array.from({ length: 6 }, (_, i) => ({
      name: `encoder.${2 * i + 1}`,
      layerIndex: 2 * i + 1,
      numExperts: 128,
      topK: 1,
    })),
  });
  const count = [...new RoutingPredictor(paper).parameters().values()].reduce(
    (sum, { size }) => sum + size,
    0,
  );
  expect(count / 1e6).toBeCloseTo(1.51, 2);
});
