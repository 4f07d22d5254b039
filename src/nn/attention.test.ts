import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { input, multiply, sum, type Tensor } from '../graph/index.js';
import {
  Attention,
  scaledDotProductAttention,
  type AttentionOptions,
  type AttentionSizes,
} from './attention.js';
import { evaluationContext, trainingContext } from './context.js';
import { normal } from './initializers.js';
import { nameParameters } from './module.js';
import { rotaryTables } from './rotary.js';

interface Sizes {
  readonly batch: number;
  readonly heads: number;
  readonly queryTime: number;
  readonly keyTime: number;
  readonly headSize: number;
  readonly valueSize: number;
}

/** Attention in plain loops: `softmax(scale · q·k + bias)` over the visible keys, times v. */
function referenceAttention(
  { batch, heads, queryTime, keyTime, headSize, valueSize }: Sizes,
  data: { query: Float64Array; key: Float64Array; value: Float64Array; mask?: number[]; bias?: Float64Array },
  { causal = false, scale = 1 / Math.sqrt(headSize) }: { causal?: boolean; scale?: number },
): number[] {
  const output: number[] = [];
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queryTime; i++) {
        const weights: number[] = [];
        for (let j = 0; j < keyTime; j++) {
          const visible = (!causal || j <= i) && data.mask?.[b * keyTime + j] !== 0;
          let score = data.bias?.[(h * queryTime + i) * keyTime + j] ?? 0;
          for (let d = 0; d < headSize; d++) {
            const q = data.query[((b * heads + h) * queryTime + i) * headSize + d];
            score += scale * q * data.key[((b * heads + h) * keyTime + j) * headSize + d];
          }
          weights.push(visible ? Math.exp(score) : 0);
        }
        const total = weights.reduce((a, b) => a + b, 0);
        for (let d = 0; d < valueSize; d++) {
          const column = (j: number): number => data.value[((b * heads + h) * keyTime + j) * valueSize + d];
          output.push(weights.reduce((sum, weight, j) => sum + (weight / total) * column(j), 0));
        }
      }
    }
  }
  return output;
}

const shape: Sizes = { batch: 2, heads: 2, queryTime: 7, keyTime: 7, headSize: 4, valueSize: 3 };

/** Leaves and numbers of one attention, in float64. */
function operands(sizes: Sizes) {
  const { batch, heads, queryTime, keyTime, headSize, valueSize } = sizes;
  const leaf = (name: string, time: number, size: number): Tensor =>
    input(name, 'float64', [batch, heads, time, size]);
  return {
    leaves: {
      query: leaf('query', queryTime, headSize),
      key: leaf('key', keyTime, headSize),
      value: leaf('value', keyTime, valueSize),
      keyMask: input('mask', 'float64', [batch, keyTime]),
      bias: input('bias', 'float64', [heads, queryTime, keyTime]),
    },
    data: {
      query: randomNumbers(1, batch * heads * queryTime * headSize),
      key: randomNumbers(2, batch * heads * keyTime * headSize),
      value: randomNumbers(3, batch * heads * keyTime * valueSize),
      bias: randomNumbers(4, heads * queryTime * keyTime),
      mask: Array.from({ length: batch * keyTime }, (_, at) => Number(at % keyTime === 0 || at % 3 !== 1)),
    },
  };
}

interface AttentionCase extends Pick<AttentionOptions, 'causal' | 'scale' | 'blockSize'> {
  readonly name: string;
  readonly sizes?: Partial<Sizes>;
  readonly masked?: boolean;
  readonly biased?: boolean;
}

const cases: readonly AttentionCase[] = [
  { name: 'everyone sees everyone' },
  { name: 'more keys than queries', sizes: { queryTime: 3, keyTime: 9 } },
  { name: 'causal, one block', causal: true, blockSize: 64 },
  { name: 'causal, blocks of one', causal: true, blockSize: 1 },
  { name: 'causal, blocks that do not divide', causal: true, blockSize: 3 },
  { name: 'causal, blocks that divide', causal: true, blockSize: 4, sizes: { queryTime: 8, keyTime: 8 } },
  { name: 'causal, block as long as the sequence', causal: true, blockSize: 7 },
  { name: 'padding', masked: true },
  { name: 'causal with padding, in blocks', causal: true, blockSize: 3, masked: true },
  { name: 'bias, unscaled as in T5', biased: true, scale: 1 },
  { name: 'causal, bias and padding, in blocks', causal: true, blockSize: 2, biased: true, masked: true },
  { name: 'another scale', causal: true, blockSize: 3, scale: 0.3 },
  { name: 'a single position', causal: true, sizes: { queryTime: 1, keyTime: 1 } },
];

describe('attention equals the plain loops, value and gradient', () => {
  test.each(cases)('$name', async ({ sizes: some, masked = false, biased = false, ...options }) => {
    const sizes = { ...shape, ...some };
    const { leaves, data } = operands(sizes);
    const { mask, bias, ...rest } = data;
    const output = scaledDotProductAttention(leaves.query, leaves.key, leaves.value, {
      ...options,
      keyMask: masked ? leaves.keyMask : undefined,
      bias: biased ? leaves.bias : undefined,
    });
    const { query, heads, batch, queryTime, valueSize } = { ...sizes, ...leaves };
    expect(output.shape).toEqual([batch, heads, queryTime, valueSize]);
    expect(query.rank).toBe(4);
    const actual = await run({ output }, Object.entries(data));
    const expected = referenceAttention(
      sizes,
      { ...rest, ...(masked && { mask }), ...(biased && { bias }) },
      options,
    );
    expect(distance(actual.output, expected)).toBeLessThan(1e-12);

    const weights = input('weights', 'float64', output.shape);
    const checked: [string, Tensor][] = [
      ['query', leaves.query],
      ['key', leaves.key],
      ['value', leaves.value],
      ...(biased ? ([['bias', leaves.bias]] as [string, Tensor][]) : []),
    ];
    const error = await leafGradientError(
      sum(multiply(output, weights)),
      new Map(checked),
      new Map(
        Object.entries({
          ...data,
          mask: Float64Array.from(mask),
          weights: randomNumbers(5, expected.length),
        }),
      ),
      { samples: 12 },
    );
    expect(error).toBeLessThan(1e-8);
  });

  test('a query that sees no key stays finite', async () => {
    const { leaves, data } = operands(shape);
    const { query, key, value, keyMask } = leaves;
    const output = scaledDotProductAttention(query, key, value, { keyMask });
    const actual = await run({ output }, Object.entries({ ...data, mask: new Array<number>(14).fill(0) }));
    expect(actual.output.every(Number.isFinite)).toBe(true);
  });

  test('causal attention refuses more keys than queries', () => {
    const { query, key, value } = operands({ ...shape, queryTime: 3 }).leaves;
    expect(() => scaledDotProductAttention(query, key, value, { causal: true })).toThrow(
      'causal attention needs as many queries (3) as keys (7)',
    );
  });

  test('float32 agrees with float64', async () => {
    const { data } = operands(shape);
    const trace = (dtype: 'float32' | 'float64'): Tensor => {
      const leaf = (name: string, size: number): Tensor => input(name, dtype, [2, 2, 7, size]);
      const options = { causal: true, blockSize: 3, keyMask: input('mask', dtype, [2, 7]) };
      return scaledDotProductAttention(leaf('query', 4), leaf('key', 4), leaf('value', 3), options);
    };
    const single = await run({ output: trace('float32') }, Object.entries(data), 'float32');
    const double = await run({ output: trace('float64') }, Object.entries(data));
    expect(distance(single.output, double.output)).toBeLessThan(1e-6);
  });
});

/** `weight · x / √(mean(x²) + 0.1)` */
function normalized(numbers: readonly number[], weight: Float64Array): number[] {
  const root = Math.sqrt(numbers.reduce((total, value) => total + value ** 2, 0) / numbers.length + 0.1);
  return numbers.map((value, i) => (weight[i] * value) / root);
}

describe('the attention layer', () => {
  const [batch, time, hiddenSize, headSize] = [2, 5, 6, 4];
  const create = (numHeads: number, numKeyValueHeads: number, bias = false): Attention =>
    new Attention({ hiddenSize, numHeads, numKeyValueHeads, headSize, bias }, normal(1));
  const x = input('x', 'float64', [batch, time, hiddenSize]);
  const rows = randomNumbers(1, batch * time * hiddenSize);

  /** Rows of a stored weight, each head's block as often as it serves. */
  const repeatHeads = (weight: Float64Array, heads: number, times: number): Float64Array => {
    const size = weight.length / heads;
    return Float64Array.from(
      Array.from({ length: heads }, (_, head) => weight.subarray(head * size, (head + 1) * size)).flatMap(
        (block) => Array.from({ length: times }, () => [...block]).flat(),
      ),
    );
  };

  test('grouped-query attention is attention with repeated key and value heads', async () => {
    const grouped = create(4, 2, true);
    const whole = create(4, 4, true);
    const parameters = nameParameters(grouped, 'float64');
    nameParameters(whole, 'float64');
    const data = randomParameters(parameters, 2);
    const repeated = new Map(
      [...data].map(([name, weight]) => [name, /key|value/.test(name) ? repeatHeads(weight, 2, 2) : weight]),
    );
    const inputs = { causal: true, site: 'a', rotary: rotaryTables(time, headSize, 'float64') };
    const a = await run({ y: grouped.forward(x, inputs, evaluationContext()) }, [...data, ['x', rows]]);
    const b = await run({ y: whole.forward(x, inputs, evaluationContext()) }, [...repeated, ['x', rows]]);
    expect(distance(a.y, b.y)).toBeLessThan(1e-12);
  });

  test('heads are read and joined in order, with biases', async () => {
    const attention = create(2, 2, true);
    const parameters = nameParameters(attention, 'float64');
    const data = randomParameters(parameters, 3);
    const project = (name: string, source: Float64Array, inSize: number): number[][] =>
      Array.from({ length: source.length / inSize }, (_, t) =>
        Array.from(data.get(`${name}.bias`)!, (bias, out) => {
          let total = bias;
          for (let i = 0; i < inSize; i++)
            total += source[t * inSize + i] * data.get(`${name}.weight`)![out * inSize + i];
          return total;
        }),
      );
    const heads = (name: string): Float64Array => {
      const projected = project(name, rows, hiddenSize);
      const byHead: number[] = [];
      for (let b = 0; b < batch; b++) {
        for (let h = 0; h < 2; h++) {
          for (let t = 0; t < time; t++)
            byHead.push(...projected[b * time + t].slice(h * headSize, (h + 1) * headSize));
        }
      }
      return Float64Array.from(byHead);
    };
    const sizes = { batch, heads: 2, queryTime: time, keyTime: time, headSize, valueSize: headSize };
    const attended = referenceAttention(
      sizes,
      { query: heads('query'), key: heads('key'), value: heads('value') },
      { causal: true },
    );
    const joined = Float64Array.from({ length: batch * time * 2 * headSize }, (_, at) => {
      const [d, h] = [at % headSize, Math.floor(at / headSize) % 2];
      const [t, b] = [Math.floor(at / (2 * headSize)) % time, Math.floor(at / (2 * headSize * time))];
      return attended[((b * 2 + h) * time + t) * headSize + d];
    });
    const y = attention.forward(x, { causal: true, site: 'a' }, evaluationContext());
    const actual = await run({ y }, [...data, ['x', rows]]);
    expect(distance(actual.y, project('output', joined, 2 * headSize).flat())).toBeLessThan(1e-12);
  });

  test.each<
    [string, Partial<AttentionSizes>, (numbers: readonly number[], weight: Float64Array) => number[]]
  >([
    [
      'over each head',
      { queryKeyNorm: { over: 'head', epsilon: 0.1 } },
      (numbers, weight) => [0, 1].flatMap((h) => normalized(numbers.slice(h * 4, h * 4 + 4), weight)),
    ],
    [
      'over all heads',
      { queryKeyNorm: { over: 'all', epsilon: 0.1 } },
      (numbers, weight) => normalized(numbers, weight),
    ],
    [
      'over all heads, then cut off',
      { queryKeyNorm: { over: 'all', epsilon: 0.1 }, clip: 0.4 },
      (numbers, weight) => normalized(numbers, weight).map((value) => Math.max(-0.4, Math.min(0.4, value))),
    ],
  ])('queries and keys are normalised %s', async (_, more, norm) => {
    const sizes = { hiddenSize, numHeads: 2, numKeyValueHeads: 2, headSize };
    const attention = new Attention({ ...sizes, ...more }, normal(1));
    const parameters = nameParameters(attention, 'float64');
    const data = randomParameters(parameters, 6);
    // The same attention over projections that are normalised already: identity weights read them.
    const project = (name: string, of: (numbers: readonly number[]) => readonly number[]): Float64Array => {
      const projected = Array.from({ length: batch * time }, (_token, t) =>
        of(
          Array.from({ length: 8 }, (_out, out) =>
            rows
              .subarray(t * hiddenSize, (t + 1) * hiddenSize)
              .reduce((sum, value, i) => sum + value * data.get(`${name}.weight`)![out * hiddenSize + i], 0),
          ),
        ),
      );
      const byHead: number[] = [];
      for (let b = 0; b < batch; b++)
        for (let h = 0; h < 2; h++)
          for (let t = 0; t < time; t++) byHead.push(...projected[b * time + t].slice(h * 4, h * 4 + 4));
      return Float64Array.from(byHead);
    };
    const clip = (numbers: readonly number[]): readonly number[] =>
      more.clip === undefined ? numbers : numbers.map((n) => Math.max(-more.clip!, Math.min(more.clip!, n)));
    const attended = referenceAttention(
      { batch, heads: 2, queryTime: time, keyTime: time, headSize, valueSize: headSize },
      {
        query: project('query', (numbers) => norm(numbers, data.get('queryNorm.weight')!)),
        key: project('key', (numbers) => norm(numbers, data.get('keyNorm.weight')!)),
        value: project('value', clip),
      },
      { causal: true },
    );
    const output = data.get('output.weight')!;
    const expected = Array.from({ length: batch * time * hiddenSize }, (_out, at) => {
      const [out, t, b] = [
        at % hiddenSize,
        Math.floor(at / hiddenSize) % time,
        Math.floor(at / hiddenSize / time),
      ];
      let total = 0;
      for (let h = 0; h < 2; h++)
        for (let d = 0; d < 4; d++)
          total += attended[((b * 2 + h) * time + t) * 4 + d] * output[out * 8 + h * 4 + d];
      return total;
    });
    const y = attention.forward(x, { causal: true, site: 'a' }, evaluationContext());
    const actual = await run({ y }, [...data, ['x', rows]]);
    expect(distance(actual.y, expected)).toBeLessThan(1e-12);
  });

  test('attends to a memory of another length, behind its own mask', async () => {
    const attention = create(2, 1);
    const parameters = nameParameters(attention, 'float64');
    const data = randomParameters(parameters, 4);
    const memory = input('memory', 'float64', [batch, 8, hiddenSize]);
    const keyMask = input('mask', 'float64', [batch, 8]);
    const y = attention.forward(x, { memory, keyMask, site: 'a' }, evaluationContext());
    expect(y.shape).toEqual([batch, time, hiddenSize]);
    const remembered = randomNumbers(5, batch * 8 * hiddenSize);
    const mask = [1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0];
    const feeds = [...data, ['x', rows], ['mask', mask]] as const;
    const before = await run({ y }, [...feeds, ['memory', remembered]]);
    const hidden = remembered.slice();
    hidden.fill(7, 5 * hiddenSize, 8 * hiddenSize);
    expect((await run({ y }, [...feeds, ['memory', hidden]])).y).toEqual(before.y);
    hidden[0] += 1;
    const seen = await run({ y }, [...feeds, ['memory', hidden]]);
    const first = time * hiddenSize;
    expect(distance(seen.y.slice(0, first), before.y.slice(0, first))).toBeGreaterThan(1e-4);
    expect(seen.y.slice(first)).toEqual(before.y.slice(first));
  });

  test('drops probabilities in training only, each block with noise of its own', () => {
    const attention = create(2, 2);
    nameParameters(attention, 'float64');
    const inputs = { causal: true, blockSize: 3, dropoutRate: 0.1, site: 'a' };
    const training = trainingContext();
    attention.forward(x, inputs, training);
    expect([...training.noise.feeds].map(([name, { shape }]) => [name, shape])).toEqual([
      ['noise.a.probabilities.0', [batch, 2, 3, 3]],
      ['noise.a.probabilities.1', [batch, 2, 2, 5]],
    ]);
    const evaluation = evaluationContext();
    attention.forward(x, inputs, evaluation);
    expect(evaluation.noise.feeds.size).toBe(0);
  });

  test('dropped probabilities: value and gradient', async () => {
    const attention = create(2, 1);
    const parameters = nameParameters(attention, 'float64');
    const context = trainingContext();
    const y = attention.forward(x, { causal: true, blockSize: 3, dropoutRate: 0.4, site: 'a' }, context);
    const buffers = Object.fromEntries(
      [...context.noise.feeds].map(([name, { shape }]) => [
        name,
        new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
      ]),
    );
    context.noise.fill(3, 1, buffers);
    const data = randomParameters(parameters, 6);
    const feeds = new Map<string, Float64Array>([...data, ['x', rows], ...Object.entries(buffers)]);
    const dropped = await run({ y }, feeds);
    const plain = await run(
      { y: attention.forward(x, { causal: true, site: 'a' }, evaluationContext()) },
      feeds,
    );
    expect(distance(dropped.y, plain.y)).toBeGreaterThan(1e-3);
    const leaves = new Map([...parameters].map(([name, { tensor }]) => [name, tensor]));
    const error = await leafGradientError(sum(multiply(y, y)), leaves.set('x', x), feeds, { samples: 8 });
    expect(error).toBeLessThan(1e-7);
  });

  test('refuses heads that do not share evenly', () => {
    expect(() => create(4, 3)).toThrow('numHeads 4 is not divisible by numKeyValueHeads 3');
  });
});
