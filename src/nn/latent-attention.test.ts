import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { input, multiply, sum } from '../graph/index.js';
import { evaluationContext } from './context.js';
import { normal } from './initializers.js';
import { LatentAttention, type LatentAttentionSizes } from './latent-attention.js';
import { nameParameters } from './module.js';
import { rotaryFrequencies, rotaryTables } from './rotary.js';

const [batch, time, hiddenSize, numHeads] = [2, 5, 6, 3];
const sizes: LatentAttentionSizes = {
  hiddenSize,
  numHeads,
  queryRank: 4,
  keyValueRank: 5,
  contentHeadSize: 3,
  rotaryHeadSize: 2,
  valueHeadSize: 4,
};
const create = (more: Partial<LatentAttentionSizes>): LatentAttention =>
  new LatentAttention({ ...sizes, ...more }, () => normal(1), normal(1));
const inputs = { causal: true, site: 'a', rotary: rotaryTables(time, 2, 'float64') };
const x = input('x', 'float64', [batch, time, hiddenSize]);
const rows = randomNumbers(1, batch * time * hiddenSize);

/** The paper's equations for one text, token by token and head by head. */
function reference(
  parameters: ReadonlyMap<string, Float64Array>,
  text: readonly (readonly number[])[],
  { scoreFactor = 1 }: Partial<LatentAttentionSizes>,
): number[][] {
  const project = (name: string, vector: readonly number[]): number[] => {
    const weight = parameters.get(`${name}.weight`)!;
    const bias = parameters.get(`${name}.bias`);
    return Array.from({ length: weight.length / vector.length }, (_, out) =>
      vector.reduce((total, value, i) => total + value * weight[out * vector.length + i], bias?.[out] ?? 0),
    );
  };
  const norm = (name: string, vector: readonly number[]): number[] => {
    const root = Math.sqrt(vector.reduce((total, value) => total + value ** 2, 0) / vector.length + 1e-6);
    return vector.map((value, i) => (parameters.get(`${name}.weight`)![i] * value) / root);
  };
  const [frequency] = rotaryFrequencies(2);
  const turn = ([a, b]: readonly number[], t: number): number[] => {
    const angle = t * frequency;
    return [a * Math.cos(angle) - b * Math.sin(angle), b * Math.cos(angle) + a * Math.sin(angle)];
  };
  const tokens = text.map((token, t) => {
    const down = project('keyValueDown', token);
    const up = project('keyValueUp', norm('keyValueNorm', down.slice(0, 5)));
    const from = parameters.has('queryDown.weight') ? norm('queryNorm', project('queryDown', token)) : token;
    const query = project('query', from);
    const rotated = turn(down.slice(5), t);
    return Array.from({ length: numHeads }, (_, h) => ({
      query: [...query.slice(h * 5, h * 5 + 3), ...turn(query.slice(h * 5 + 3, h * 5 + 5), t)],
      key: [...up.slice(h * 7, h * 7 + 3), ...rotated],
      value: up.slice(h * 7 + 3, (h + 1) * 7),
    }));
  });
  return tokens.map((heads, t) => {
    const joined = heads.flatMap(({ query }, h) => {
      const weights = tokens.slice(0, t + 1).map((other) => {
        const product = other[h].key.reduce((total, value, i) => total + value * query[i], 0);
        return Math.exp((scoreFactor * product) / Math.sqrt(5));
      });
      const total = weights.reduce((a, b) => a + b, 0);
      return [0, 1, 2, 3].map((d) =>
        weights.reduce((result, weight, s) => result + (weight / total) * tokens[s][h].value[d], 0),
      );
    });
    return project('output', joined);
  });
}

const variants: readonly (readonly [string, Partial<LatentAttentionSizes>])[] = [
  ['queries out of a vector of their own', {}],
  ['queries out of the hidden state', { queryRank: null }],
  ['biases, another scale', { bias: true, scoreFactor: 1.7 }],
  ['a bias on the output alone', { outputBias: true }],
];

describe.each(variants)('latent attention, %s', (_, more) => {
  test('equals the plain loops', async () => {
    const attention = create(more);
    const parameters = nameParameters(attention, 'float64');
    const data = randomParameters(parameters, 2);
    const { y } = await run({ y: attention.forward(x, inputs, evaluationContext()) }, [...data, ['x', rows]]);
    const texts = Array.from({ length: batch }, (_text, b) =>
      Array.from({ length: time }, (_token, t) => [
        ...rows.subarray((b * time + t) * hiddenSize, (b * time + t + 1) * hiddenSize),
      ]),
    );
    expect(distance(y, texts.flatMap((text) => reference(data, text, more)).flat())).toBeLessThan(1e-12);
  });

  test('gradients equal finite differences', async () => {
    const attention = create(more);
    const parameters = nameParameters(attention, 'float64');
    const output = attention.forward(x, inputs, evaluationContext());
    const weights = input('weights', 'float64', output.shape);
    const leaves = new Map([...parameters].map(([name, parameter]) => [name, parameter.tensor] as const));
    const error = await leafGradientError(
      sum(multiply(output, weights)),
      leaves.set('x', x),
      new Map([
        ...randomParameters(parameters, 3),
        ['x', rows],
        ['weights', randomNumbers(4, batch * time * hiddenSize)],
      ]),
      { samples: 12 },
    );
    expect(error).toBeLessThan(1e-7);
  });
});

test('a token leaves one short vector in the cache', () => {
  expect(create({}).cacheSizes).toEqual({ latent: { heads: 1, size: 7 } });
});
