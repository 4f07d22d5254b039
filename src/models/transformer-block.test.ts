import { expect, test } from 'vitest';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { layerContext } from '../../test/support/moe-context.js';
import { distance, randomParameters, run } from '../../test/support/numbers.js';
import { input, multiply, reshape, slice, sum, type Tensor } from '../graph/index.js';
import type { FeedForward } from '../moe/index.js';
import { Module, nameParameters, type AttentionInputs, type AttentionLayer } from '../nn/index.js';
import { createNorm, TransformerBlock, type BlockNorm } from './transformer-block.js';

const [batch, time, size, length] = [2, 3, 4, 2];

/** Each token gets three times itself plus the sum of everything that can be attended to. */
class SumAttention extends Module implements AttentionLayer {
  forward(x: Tensor, { memory = x }: AttentionInputs): Tensor {
    const [, keyTime] = memory.shape as number[];
    expect(keyTime).toBe(length + time);
    const everything = sum(memory, 1, true);
    return multiply(x, everything);
  }
}

class Square extends Module implements FeedForward {
  forward(hidden: Tensor): ReturnType<FeedForward['forward']> {
    return { output: multiply(hidden, hidden), records: [], losses: [] };
  }
  cost(): { parameters: number; flops: number } {
    return { parameters: 0, flops: 0 };
  }
}

function create(blockNorm: BlockNorm, rate: number): TransformerBlock {
  return new TransformerBlock(
    {
      attentionNorm: createNorm({ norm: 'layer' }, size),
      attention: new SumAttention(),
      feedForwardNorm: createNorm({ norm: 'layer' }, size),
      feedForward: new Square(),
      innerNorm: blockNorm === 'postDouble' ? createNorm({ norm: 'layer' }, size) : undefined,
    },
    blockNorm,
    rate,
  );
}

type Row = readonly number[];
const plus = (a: Row, b: Row): number[] => a.map((value, i) => value + b[i]!);
const times = (a: Row, b: Row): number[] => a.map((value, i) => value * b[i]!);

test.each<BlockNorm>(['pre', 'post', 'postDouble'])('%s is what its equations say', async (blockNorm) => {
  const block = create(blockNorm, 0);
  const parameters = nameParameters(block, 'float64');
  const states = input('states', 'float64', [batch, length + time, size]);
  const { hidden } = block.forward(
    slice(states, 1, length, length + time),
    {},
    { memory: slice(states, 1, 0, length) },
    layerContext({ site: 'block' }),
  );
  const numbers = randomParameters(parameters, 1);
  const data = randomNumbers(2, batch * (length + time) * size);
  const actual = await run({ hidden: reshape(hidden, [-1]) }, [...numbers, ['states', data]]);

  const norm = (name: string, x: Row): number[] => {
    const mean = x.reduce((a, b) => a + b, 0) / size;
    const deviation = Math.sqrt(x.reduce((a, b) => a + (b - mean) ** 2, 0) / size + 1e-5);
    const [weight, bias] = [numbers.get(`${name}.weight`)!, numbers.get(`${name}.bias`)!];
    return x.map((value, i) => ((value - mean) / deviation) * weight[i]! + bias[i]!);
  };
  const expected: number[] = [];
  for (let b = 0; b < batch; b++) {
    const rows = Array.from({ length: length + time }, (_, t) => {
      const start = (b * (length + time) + t) * size;
      return Array.from(data.slice(start, start + size));
    });
    const read = blockNorm === 'pre' ? rows.map((row) => norm('attentionNorm', row)) : rows;
    const everything = read.reduce((total, row) => plus(total, row), new Array<number>(size).fill(0));
    for (let t = length; t < length + time; t++) {
      const attended = plus(rows[t]!, times(read[t]!, everything));
      if (blockNorm === 'pre') {
        const inner = norm('feedForwardNorm', attended);
        expected.push(...plus(attended, times(inner, inner)));
        continue;
      }
      const h = norm('attentionNorm', attended);
      const fed = plus(h, times(h, h));
      const outer = blockNorm === 'post' ? fed : plus(h, norm('innerNorm', fed));
      expected.push(...norm('feedForwardNorm', outer));
    }
  }
  expect(distance(actual.hidden, expected)).toBeLessThan(1e-12);
});

test.each<[BlockNorm, string[]]>([
  ['pre', ['attentionOutput', 'feedForwardOutput']],
  ['post', ['attentionOutput', 'feedForwardOutput']],
  // ACMoE's code drops nothing behind its attention.
  ['postDouble', ['feedForwardOutput']],
])('%s: dropout behind %j', (blockNorm, expected) => {
  const block = create(blockNorm, 0.5);
  nameParameters(block);
  const states = input('states', 'float32', [batch, length + time, size]);
  const context = layerContext({ site: 'block', training: true });
  block.forward(
    slice(states, 1, length, length + time),
    {},
    { memory: slice(states, 1, 0, length) },
    context,
  );
  expect([...context.noise.feeds.keys()]).toEqual(expected.map((part) => `noise.block.${part}`));
});
