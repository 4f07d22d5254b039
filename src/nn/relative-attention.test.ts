import { describe, expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { leafGradientError } from '../../test/support/leaf-gradients.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { input, multiply, slice, sum, type Tensor } from '../graph/index.js';
import type { AttentionLayer } from './attention.js';
import { evaluationContext, trainingContext } from './context.js';
import { normal } from './initializers.js';
import { nameParameters, type Module } from './module.js';
import { SpanAttention, SpanPositions } from './span-attention.js';
import { sinusoidTable, TransformerXLAttention } from './transformer-xl-attention.js';

const sizes = { hiddenSize: 6, numHeads: 2, headSize: 3 };
const batch = 2;

type Matrix = number[][];
type Numbers = ReadonlyMap<string, Float64Array>;

/** `x Wᵀ + b` row by row. */
function linear(x: Matrix, parameters: Numbers, name: string): Matrix {
  const weight = parameters.get(`${name}.weight`)!;
  const bias = parameters.get(`${name}.bias`);
  const inSize = x[0]!.length;
  return x.map((row) =>
    Array.from({ length: weight.length / inSize }, (_, out) =>
      row.reduce((total, value, i) => total + value * weight[out * inSize + i]!, bias?.[out] ?? 0),
    ),
  );
}

/** One sequence of attention: scores by `score(query row, key row, head)`, softmax over the visible keys. */
function attend(
  { states, time, parameters }: { states: Matrix; time: number; parameters: Numbers },
  score: (query: number[], key: number[], distance: number, head: number) => number,
  visible: (distance: number, key: number) => boolean,
): Matrix {
  const remembered = states.length - time;
  const queries = linear(states.slice(remembered), parameters, 'query');
  const keys = linear(states, parameters, 'key');
  const values = linear(states, parameters, 'value');
  const { numHeads, headSize } = sizes;
  const joined = queries.map((query, i) =>
    Array.from({ length: numHeads }, (_, head) => {
      const part = (row: number[]): number[] => row.slice(head * headSize, (head + 1) * headSize);
      const weights = keys.map((key, j) => {
        const distance = remembered + i - j;
        return visible(distance, j) ? Math.exp(score(part(query), part(key), distance, head)) : 0;
      });
      const total = weights.reduce((a, b) => a + b, 0);
      return Array.from({ length: headSize }, (_, d) =>
        weights.reduce((sum, weight, j) => sum + (weight / total) * part(values[j]!)[d]!, 0),
      );
    }).flat(),
  );
  return linear(joined, parameters, 'output');
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((total, value, i) => total + value * b[i]!, 0);

interface Setup {
  readonly time: number;
  readonly remembered: number;
  readonly blockSize: number;
  readonly masked?: boolean;
}

/** A layer over random states, traced in float64 with everything that a check needs. */
function trace(
  layer: AttentionLayer & Module,
  relativePositions: (parameters: Module) => Tensor,
  setup: Setup,
) {
  const { time, remembered, blockSize, masked = false } = setup;
  const keyTime = remembered + time;
  const parameters = nameParameters(layer, 'float64');
  const states = input('states', 'float64', [batch, keyTime, sizes.hiddenSize]);
  const mask = Array.from({ length: batch * keyTime }, (_, at) => Number(at % 5 !== 1));
  const x = slice(states, 1, remembered, keyTime);
  const output = layer.forward(
    x,
    {
      memory: states,
      blockSize,
      relativePositions: relativePositions(layer),
      site: 'test',
      ...(masked && { keyMask: input('mask', 'float64', [batch, keyTime]) }),
    },
    evaluationContext(),
  );
  const numbers = randomParameters(parameters, 3);
  const data = randomNumbers(7, batch * keyTime * sizes.hiddenSize);
  const sequences = Array.from({ length: batch }, (_, b) =>
    Array.from({ length: keyTime }, (_, t) => {
      const start = (b * keyTime + t) * sizes.hiddenSize;
      return Array.from(data.slice(start, start + sizes.hiddenSize));
    }),
  );
  const isVisible = (b: number, key: number): boolean => !masked || mask[b * keyTime + key] === 1;
  return { output, parameters, states, numbers, data, mask, sequences, isVisible };
}

const setups: readonly (readonly [string, Setup])[] = [
  ['one block', { time: 5, remembered: 4, blockSize: 64 }],
  ['blocks that do not divide, a long memory', { time: 7, remembered: 11, blockSize: 3 }],
  ['blocks of one', { time: 4, remembered: 2, blockSize: 1 }],
  ['blocks that divide, padding', { time: 6, remembered: 4, blockSize: 2, masked: true }],
  ['a single token', { time: 1, remembered: 3, blockSize: 2 }],
];

describe('Transformer-XL attention equals the plain loops, value and gradient', () => {
  const cases = [...setups, ['no memory', { time: 5, remembered: 0, blockSize: 2 }]] as const;
  test.each(cases)('%s', async (_, setup) => {
    for (const learnedScale of [true, false]) {
      const layer = new TransformerXLAttention({ ...sizes, bias: learnedScale, learnedScale }, normal(1));
      const keyTime = setup.time + setup.remembered;
      const traced = trace(layer, () => sinusoidTable(keyTime, sizes.hiddenSize, 'float64'), setup);
      const { numbers } = traced;
      const scale = learnedScale ? numbers.get('scale')![0]! : 1 / Math.sqrt(sizes.headSize);
      const sinusoid = (distance: number): number[] =>
        Array.from({ length: sizes.hiddenSize }, (_, i) => {
          const angle = distance / 10_000 ** ((i % 3) / 3);
          return i < 3 ? Math.sin(angle) : Math.cos(angle);
        });
      const expected = traced.sequences.map((states, b) =>
        attend(
          { states, time: setup.time, parameters: numbers },
          (query, key, distance, head) => {
            const row = linear([sinusoid(distance)], numbers, 'position')[0]!;
            const position = row.slice(head * sizes.headSize, (head + 1) * sizes.headSize);
            const bias = (name: string): Float64Array =>
              numbers.get(name)!.slice(head * sizes.headSize, (head + 1) * sizes.headSize);
            const [u, v] = [bias('contentBias'), bias('positionBias')];
            return (
              scale *
              (dot(
                query.map((q, d) => q + u[d]!),
                key,
              ) +
                dot(
                  query.map((q, d) => q + v[d]!),
                  position,
                ))
            );
          },
          (distance, key) => distance >= 0 && traced.isVisible(b, key),
        ),
      );
      await expectSame(traced, expected);
    }
  });
});

describe('span attention equals the plain loops, value and gradient', () => {
  test.each(setups)('%s', async (_, setup) => {
    const span = setup.remembered;
    class Both extends SpanAttention {
      readonly positions = new SpanPositions(sizes.headSize, span, normal(1));
    }
    const traced = trace(
      new Both(sizes, normal(1)),
      (layer) => (layer as Both).positions.weight.tensor,
      setup,
    );
    const embedding = traced.numbers.get('positions.weight')!;
    const expected = traced.sequences.map((states, b) =>
      attend(
        { states, time: setup.time, parameters: traced.numbers },
        (query, key, distance) => {
          const column = query.map((_, d) => embedding[d * span + span - distance]!);
          return (dot(query, key) + dot(query, column)) / Math.sqrt(sizes.headSize);
        },
        (distance, key) => distance >= 1 && distance <= span && traced.isVisible(b, key),
      ),
    );
    await expectSame(traced, expected);
  });

  test('a memory of another length is refused', () => {
    const layer = new SpanAttention(sizes, normal(1));
    nameParameters(layer);
    const x = input('x', 'float32', [1, 3, sizes.hiddenSize]);
    const relativePositions = input('positions', 'float32', [sizes.headSize, 4]);
    expect(() => layer.forward(x, { relativePositions, site: 'x' }, evaluationContext())).toThrow(
      'a span of 4 needs a memory of 4 steps, not 0',
    );
  });
});

async function expectSame(traced: ReturnType<typeof trace>, expected: readonly Matrix[]): Promise<void> {
  const { output, parameters, states, numbers, data, mask } = traced;
  const feeds = [...numbers, ['states', data], ['mask', mask]] as const;
  const actual = await run({ output }, feeds);
  expect(distance(actual.output, expected.flat(2))).toBeLessThan(1e-12);
  const weights = input('weights', 'float64', output.shape);
  const error = await leafGradientError(
    sum(multiply(output, weights)),
    new Map([['states', states], ...[...parameters].map(([name, { tensor }]) => [name, tensor] as const)]),
    new Map<string, Float64Array>([
      ...numbers,
      ['states', data],
      ['mask', Float64Array.from(mask)],
      ['weights', randomNumbers(5, expected.flat(2).length)],
    ]),
    { samples: 8, seed: 1 },
  );
  expect(error).toBeLessThan(1e-7);
}

test('dropout of probabilities: one site a block, gradients under the same noise', async () => {
  const layer = new TransformerXLAttention({ ...sizes, learnedScale: true }, normal(1));
  const parameters = nameParameters(layer, 'float64');
  const context = trainingContext();
  const x = input('x', 'float64', [batch, 5, sizes.hiddenSize]);
  const output = layer.forward(
    x,
    {
      blockSize: 3,
      dropoutRate: 0.3,
      relativePositions: sinusoidTable(5, sizes.hiddenSize, 'float64'),
      site: 'layer',
    },
    context,
  );
  expect([...context.noise.feeds.keys()]).toEqual([
    'noise.layer.probabilities.0',
    'noise.layer.probabilities.1',
  ]);
  const noise = Object.fromEntries(
    [...context.noise.feeds].map(([name, { shape }]) => [
      name,
      new Float64Array((shape as number[]).reduce((a, b) => a * b, 1)),
    ]),
  );
  context.noise.fill(1, 2, noise);
  const error = await leafGradientError(
    sum(multiply(output, output)),
    new Map([['x', x], ...[...parameters].map(([name, { tensor }]) => [name, tensor] as const)]),
    new Map<string, Float64Array>([
      ...randomParameters(parameters, 3),
      ['x', randomNumbers(1, batch * 5 * sizes.hiddenSize)],
      ...Object.entries(noise),
    ]),
    { samples: 6, seed: 1 },
  );
  expect(error).toBeLessThan(1e-7);
});

test('an odd width has no sinusoids', () => {
  expect(() => sinusoidTable(3, 5, 'float32')).toThrow('sinusoid positions need an even size, not 5');
});
