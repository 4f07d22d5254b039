import { expect, test } from 'vitest';
import { evaluate } from '../../../test/support/evaluate.js';
import { gradientError, randomNumbers } from '../../../test/support/gradient-check.js';
import { input } from '../../graph/index.js';
import { nameParameters } from '../../nn/index.js';
import { Lstm } from './lstm.js';

const [time, batch, inSize, hiddenSize] = [4, 2, 3, 5];

/** The layer over given tensors, in double precision. */
function traced(): Lstm {
  const layer = new Lstm(inSize, hiddenSize);
  nameParameters(layer, 'float64');
  return layer;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** PyTorch's equations, one number at a time. */
function reference(
  x: Float64Array,
  { input: w, recurrent: u, bias: b }: Record<string, Float64Array>,
): number[] {
  const hidden = Array.from({ length: batch }, () => new Array<number>(hiddenSize).fill(0));
  const cell = Array.from({ length: batch }, () => new Array<number>(hiddenSize).fill(0));
  const out: number[] = [];
  for (let t = 0; t < time; t++) {
    for (let n = 0; n < batch; n++) {
      const sums = Array.from({ length: 4 * hiddenSize }, (_, row) => {
        let sum = b[row];
        for (let i = 0; i < inSize; i++) sum += w[row * inSize + i] * x[(t * batch + n) * inSize + i];
        for (let i = 0; i < hiddenSize; i++) sum += u[row * hiddenSize + i] * hidden[n][i];
        return sum;
      });
      for (let i = 0; i < hiddenSize; i++) {
        const [forget, candidate] = [sigmoid(sums[hiddenSize + i]), Math.tanh(sums[2 * hiddenSize + i])];
        cell[n][i] = forget * cell[n][i] + sigmoid(sums[i]) * candidate;
        hidden[n][i] = sigmoid(sums[3 * hiddenSize + i]) * Math.tanh(cell[n][i]);
      }
      out.push(...hidden[n]);
    }
  }
  return out;
}

test('is a plain loop over time', async () => {
  const layer = traced();
  const weights = Object.fromEntries(
    [...layer.parameters()].map(([name, { size }], i) => [name, randomNumbers(i, size)]),
  );
  const x = randomNumbers(9, time * batch * inSize);
  const { y } = await evaluate(
    { y: layer.forward(input('x', 'float64', [time, batch, inSize])) },
    { x, ...weights },
  );
  const expected = reference(x, weights);
  [...(y as Float64Array)].forEach((value, i) => expect(value).toBeCloseTo(expected[i], 10));
});

test('a step continues the loop', async () => {
  const layer = traced();
  const weights = Object.fromEntries(
    [...layer.parameters()].map(([name, { size }], i) => [name, randomNumbers(i, size)]),
  );
  const x = randomNumbers(9, time * batch * inSize);
  const expected = reference(x, weights);
  let hidden = new Float64Array(batch * hiddenSize);
  let cell = new Float64Array(batch * hiddenSize);
  const step = layer.step(input('x', 'float64', [batch, inSize]), {
    hidden: input('h', 'float64', [batch, hiddenSize]),
    cell: input('c', 'float64', [batch, hiddenSize]),
  });
  for (let t = 0; t < time; t++) {
    const row = x.slice(t * batch * inSize, (t + 1) * batch * inSize);
    const next = await evaluate({ ...step }, { x: row, h: hidden, c: cell, ...weights });
    [hidden, cell] = [next.hidden as typeof hidden, next.cell as typeof cell];
  }
  [...hidden].forEach((value, i) =>
    expect(value).toBeCloseTo(expected[(time - 1) * batch * hiddenSize + i], 10),
  );
});

test.each([1, 4])('has the right gradients over %i steps', async (steps) => {
  const layer = new Lstm(inSize, hiddenSize);
  const shapes = [...layer.parameters()];
  const error = await gradientError(
    ([x, ...values]) => {
      shapes.forEach(([, parameter], i) =>
        Object.defineProperty(parameter, 'tensor', { value: values[i], configurable: true }),
      );
      return layer.forward(x);
    },
    [{ shape: [steps, batch, inSize] }, ...shapes.map(([, { shape }]) => ({ shape }))],
    5,
  );
  expect(error).toBeLessThan(1e-7);
});
