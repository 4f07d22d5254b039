import { describe, expect, test } from 'vitest';
import { gradientError, randomNumbers } from '../../test/support/gradient-check.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { input, sum, gradients } from '../graph/index.js';
import { compile } from '../runtime/index.js';
import { evaluationContext, NoiseInputs, trainingContext } from './context.js';
import { normal } from './initializers.js';
import { dropout, Embedding, LayerNorm, Linear, RMSNorm } from './layers.js';
import { crossEntropy, maskedMean } from './loss.js';
import { nameParameters } from './module.js';

describe('linear maps', () => {
  test.each([[[4, 3]], [[2, 4, 3]], [[3]]])('y = x Wᵀ + b over leading axes %j', async (shape) => {
    const linear = new Linear(3, 5, normal(1), { bias: true });
    const data = randomParameters(nameParameters(linear, 'float64'), 1);
    const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
    const x = randomNumbers(2, rows * 3);
    const y = linear.forward(input('x', 'float64', shape));
    expect(y.shape).toEqual([...shape.slice(0, -1), 5]);
    const actual = await run({ y }, [...data, ['x', x]]);
    const expected = Array.from({ length: rows * 5 }, (_, at) => {
      const [row, out] = [Math.floor(at / 5), at % 5];
      const products = [0, 1, 2].map((i) => x[row * 3 + i] * data.get('weight')![out * 3 + i]);
      return products.reduce((a, b) => a + b, data.get('bias')![out]);
    });
    expect(distance(actual.y, expected)).toBeLessThan(1e-14);
  });

  test('an embedding looks rows up, scores against them, and collects the gradient of repeated ids', async () => {
    const embedding = new Embedding(4, 3, normal(1));
    const { weight } = Object.fromEntries(nameParameters(embedding, 'float64'));
    const table = randomNumbers(1, 12);
    const ids = input('ids', 'int32', [2, 2]);
    const rows = embedding.forward(ids);
    expect(rows.shape).toEqual([2, 2, 3]);
    const [gradient] = gradients(sum(rows), [weight.tensor]);
    const actual = await run({ rows, logits: embedding.logits(rows), gradient: gradient }, [
      ['weight', table],
      ['ids', Int32Array.of(3, 1, 3, 3)],
    ]);
    const at = (row: number): number[] => [...table.subarray(row * 3, row * 3 + 3)];
    expect(actual.rows).toEqual([3, 1, 3, 3].flatMap(at));
    expect(actual.gradient).toEqual([0, 0, 0, 1, 1, 1, 0, 0, 0, 3, 3, 3]);
    const scores = [3, 1, 3, 3].flatMap((a) =>
      [0, 1, 2, 3].map((b) => at(a).reduce((s, v, i) => s + v * at(b)[i], 0)),
    );
    expect(distance(actual.logits, scores)).toBeLessThan(1e-14);
  });
});

describe('normalisation', () => {
  const x = randomNumbers(1, 12, -3, 3);
  const rows = [0, 1, 2].map((row) => [...x.subarray(row * 4, row * 4 + 4)]);
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

  test('rms: x / √(mean x² + ε) · w', async () => {
    const norm = new RMSNorm(4, 0.01);
    const data = randomParameters(nameParameters(norm, 'float64'), 2);
    const { y } = await run({ y: norm.forward(input('x', 'float64', [3, 4])) }, [...data, ['x', x]]);
    const expected = rows.flatMap((row) => {
      const size = Math.sqrt(mean(row.map((v) => v * v)) + 0.01);
      return row.map((v, i) => (v / size) * data.get('weight')![i]);
    });
    expect(distance(y, expected)).toBeLessThan(1e-13);
  });

  test('layer: (x − mean) / √(variance + ε) · w + b', async () => {
    const norm = new LayerNorm(4, 0.01);
    const data = randomParameters(nameParameters(norm, 'float64'), 2);
    const { y } = await run({ y: norm.forward(input('x', 'float64', [3, 4])) }, [...data, ['x', x]]);
    const expected = rows.flatMap((row) => {
      const centred = row.map((v) => v - mean(row));
      const size = Math.sqrt(mean(centred.map((v) => v * v)) + 0.01);
      return centred.map((v, i) => (v / size) * data.get('weight')![i] + data.get('bias')![i]);
    });
    expect(distance(y, expected)).toBeLessThan(1e-13);
  });
});

describe('dropout', () => {
  const x = input('x', 'float32', [40, 50]);
  const ones = new Float32Array(2000).fill(1);

  test('is a pure function of (seed, step, site) and keeps the mean', async () => {
    const context = trainingContext();
    const program = await compile({
      a: dropout(x, 0.25, 'a', context),
      b: dropout(x, 0.25, 'b', context),
    });
    const buffers = { 'noise.a': new Float32Array(2000), 'noise.b': new Float32Array(2000) };
    program.bind({ x: ones, ...buffers });
    const at = async (seed: number, step: number): Promise<{ a: number[]; b: number[] }> => {
      context.noise.fill(seed, step, buffers);
      const { a, b } = await program.run();
      return { a: Array.from(a as Float32Array), b: Array.from(b as Float32Array) };
    };
    const first = await at(1, 1);
    for (const values of Object.values(first)) {
      const kept = values.filter((value) => value !== 0);
      for (const value of kept) expect(value).toBeCloseTo(1 / 0.75, 6);
      // 2000 draws: σ of the kept share is 0.0097.
      expect(Math.abs(kept.length / 2000 - 0.75)).toBeLessThan(0.04);
    }
    const others = [await at(2, 1), await at(1, 2)];
    expect(await at(1, 1)).toEqual(first);
    const agreement = (p: readonly number[], q: readonly number[]): number =>
      p.filter((value, i) => (value === 0) === (q[i] === 0)).length / 2000;
    // Independent masks agree in 0.75² + 0.25² = 0.625 of the places.
    for (const other of [first.b, ...others.map(({ a }) => a)]) {
      expect(Math.abs(agreement(first.a, other) - 0.625)).toBeLessThan(0.05);
    }
    await program.release();
  });

  test('the identity in evaluation and at rate 0', () => {
    expect(dropout(x, 0.5, 'a', evaluationContext())).toBe(x);
    expect(dropout(x, 0, 'a', trainingContext())).toBe(x);
  });

  test.each([1, -0.1, NaN])('refuses the rate %d', (rate) => {
    expect(() => dropout(x, rate, 'blocks.0', trainingContext())).toThrow(`dropout ${rate} at 'blocks.0'`);
  });
});

describe('noise inputs', () => {
  test('refuse a site that is taken', () => {
    const noise = new NoiseInputs();
    noise.request('blocks.0.dropout', 'uniform', 'float32', [2]);
    expect(() => noise.request('blocks.0.dropout', 'uniform', 'float32', [2])).toThrow(
      "noise site 'blocks.0.dropout' is requested twice",
    );
  });

  test('have the distribution that was asked for, in the element type of the program', () => {
    const noise = new NoiseInputs();
    noise.request('u', 'uniform', 'float32', [20_000]);
    noise.request('n', 'normal', 'float64', [20_000]);
    expect([...noise.feeds].map(([name, tensor]) => [name, tensor.toString()])).toEqual([
      ['noise.u', 'float32[20000]'],
      ['noise.n', 'float64[20000]'],
    ]);
    const buffers = { 'noise.u': new Float32Array(20_000), 'noise.n': new Float64Array(20_000) };
    noise.fill(1, 2, buffers);
    const moments = (data: Float32Array | Float64Array): [number, number] => {
      let [total, squares] = [0, 0];
      for (const value of data) [total, squares] = [total + value, squares + value * value];
      return [total / data.length, squares / data.length - (total / data.length) ** 2];
    };
    const [uniformMean, uniformVariance] = moments(buffers['noise.u']);
    expect(Math.abs(uniformMean - 0.5)).toBeLessThan(0.01);
    expect(Math.abs(uniformVariance - 1 / 12)).toBeLessThan(0.004);
    expect(buffers['noise.u'].every((value) => value >= 0 && value < 1)).toBe(true);
    const [normalMean, normalVariance] = moments(buffers['noise.n']);
    expect(Math.abs(normalMean)).toBeLessThan(0.03);
    expect(Math.abs(normalVariance - 1)).toBeLessThan(0.04);
  });
});

describe('losses', () => {
  test('cross-entropy is −log softmax at the target, without overflow', async () => {
    const logits = input('logits', 'float64', [3, 4]);
    const rows = [
      [0, 0, 0, 0],
      [1, 2, 3, 4],
      [1000, 0, -1000, 999],
    ];
    const { loss } = await run({ loss: crossEntropy(logits, input('targets', 'int32', [3])) }, [
      ['logits', rows.flat()],
      ['targets', Int32Array.of(2, 3, 3)],
    ]);
    const second = Math.log([1, 2, 3, 4].reduce((total, v) => total + Math.exp(v), 0)) - 4;
    expect(distance(loss, [Math.log(4), second, 1 + Math.log(1 + Math.exp(-1))])).toBeLessThan(1e-14);
  });

  test('its gradient is that of finite differences', async () => {
    const targets = input('targets', 'int32', [5]);
    const logits = input('logits', 'float64', [5, 7]);
    const weights = input('weights', 'float64', [5]);
    const [gradient] = gradients(crossEntropy(logits, targets), [logits], { seeds: [weights] });
    const [data, arriving, ids] = [randomNumbers(1, 35, -3, 3), randomNumbers(2, 5), [3, 0, 6, 6, 2]];
    const actual = await run({ gradient: gradient }, [
      ['logits', data],
      ['weights', arriving],
      ['targets', Int32Array.from(ids)],
    ]);
    const value = (): number =>
      ids.reduce((total, id, t) => {
        const row = data.subarray(t * 7, t * 7 + 7);
        return total + arriving[t] * (Math.log(row.reduce((s, v) => s + Math.exp(v), 0)) - row[id]);
      }, 0);
    const numeric = data.map((original, i) => {
      data[i] = original + 1e-5;
      const above = value();
      data[i] = original - 1e-5;
      const below = value();
      data[i] = original;
      return (above - below) / 2e-5;
    });
    expect(distance(actual.gradient, numeric)).toBeLessThan(1e-9);
  });

  test('a masked mean counts what is real, and is 0 over nothing', async () => {
    const values = input('values', 'float64', [4]);
    const mask = input('mask', 'float32', [4]);
    const program = await compile({ mean: maskedMean(values, mask) });
    program.bind({ values: Float64Array.of(1, 2, 3, 10) });
    const at = async (...bits: number[]): Promise<number> =>
      (await program.run({ mask: Float32Array.from(bits) })).mean[0] as number;
    expect(await at(1, 0, 1, 0)).toBe(2);
    expect(await at(1, 1, 1, 1)).toBe(4);
    expect(await at(0, 0, 0, 0)).toBe(0);
    await program.release();
    const error = await gradientError(
      ([x, m]) => maskedMean(x, m),
      [{ shape: [4] }, { shape: [4], data: Float64Array.of(1, 1, 0, 1) }],
      1,
    );
    expect(error).toBeLessThan(1e-9);
  });
});
