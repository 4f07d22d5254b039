import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../../test/support/evaluate.js';
import { gradientError } from '../../../test/support/gradient-check.js';
import {
  floats,
  operatorTest,
  relativeDifference,
  seeds,
  type Sample,
} from '../../../test/support/operator-check.js';
import * as graph from '../index.js';
import type { Tensor } from '../index.js';

/** A small recurrent cell: h' = tanh(x W + h U + b), output h' · x. W, U and b are captured. */
function cell(h: Tensor, x: Tensor, [w, u, b]: readonly Tensor[]): { h: Tensor; y: Tensor } {
  const next = graph.tanh(graph.add(graph.add(graph.matmul(x, w), graph.matmul(h, u)), b));
  return { h: next, y: graph.multiply(next, x) };
}

/** The same loop written out. */
function unrolled(
  h: Tensor,
  xs: Tensor,
  parameters: readonly Tensor[],
  reverse: boolean,
): { last: Tensor; ys: Tensor } {
  const steps = [...graph.unstack(xs)];
  const ys: Tensor[] = [];
  if (reverse) steps.reverse();
  for (const x of steps) {
    const made = cell(h, x, parameters);
    h = made.h;
    ys.push(made.y);
  }
  return { last: h, ys: graph.stack(reverse ? ys.reverse() : ys) };
}

function looped(
  h: Tensor,
  xs: Tensor,
  parameters: readonly Tensor[],
  reverse: boolean,
): { last: Tensor; ys: Tensor } {
  const { carry, outputs } = graph.scan(
    ([state], [x]) => {
      const made = cell(state, x, parameters);
      return { carry: [made.h], outputs: [made.y] };
    },
    [h],
    [xs],
    { reverse },
  );
  return { last: carry[0], ys: outputs[0] };
}

const loops = fc.tuple(
  fc.integer({ min: 1, max: 4 }),
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 1, max: 3 }),
  fc.boolean(),
  seeds,
);

describe('a recurrent cell with captured weights', () => {
  operatorTest(
    'values and gradients',
    loops.map(([length, batch, size, reverse, seed]): Sample => ({
      operands: [
        floats(seed, [batch, size]),
        floats(seed + 1, [length, batch, size]),
        floats(seed + 2, [size, size]),
        floats(seed + 3, [size, size]),
        floats(seed + 4, [size]),
      ],
      build: ([h, xs, ...parameters]) => {
        const { last, ys } = looped(h, xs, parameters, reverse);
        return graph.concat([graph.reshape(ys, [-1]), graph.reshape(last, [-1])], 0);
      },
    })),
  );

  test('three steps equal the unrolled graph, values and gradients, forwards and in reverse', async () => {
    const shapes = { h: [2, 3], xs: [3, 2, 3], w: [3, 3], u: [3, 3], b: [3] };
    const leaves = Object.entries(shapes).map(([name, shape]) => graph.input(name, 'float64', shape));
    const [h, xs, ...parameters] = leaves;
    const feeds = Object.fromEntries(
      Object.entries(shapes).map(([name, shape], i) => [name, floats(i, shape).data!]),
    );
    for (const reverse of [false, true]) {
      const results = await Promise.all(
        [looped, unrolled].map((loop) => {
          const { last, ys } = loop(h, xs, parameters, reverse);
          const loss = graph.add(graph.sum(graph.square(last)), graph.sum(graph.multiply(ys, graph.exp(ys))));
          const derived = graph.gradients(loss, leaves);
          const outputs = { last, ys, loss, ...Object.fromEntries(derived.map((g, i) => [`g${i}`, g])) };
          return evaluate(outputs as Record<string, Tensor>, feeds);
        }),
      );
      for (const [name, values] of Object.entries(results[0])) {
        const expected = results[1][name] as Float64Array;
        expect(relativeDifference(values as Float64Array, expected), name).toBeLessThan(1e-13);
      }
    }
  });
});

test('reverse starts at the last element and keeps the order of the outputs', async () => {
  const xs = graph.input('xs', 'float32', [4]);
  const { carry, outputs } = graph.scan(
    ([total], [x]) => {
      const next = graph.add(graph.multiply(total, 10), x);
      return { carry: [next], outputs: [next] };
    },
    [graph.scalar('float32', 0)],
    [xs],
    { reverse: true },
  );
  expect(await evaluate({ last: carry[0], all: outputs[0] }, { xs: Float32Array.of(1, 2, 3, 4) })).toEqual({
    last: Float32Array.of(4321),
    all: Float32Array.of(4321, 432, 43, 4),
  });
});

describe('gradients', () => {
  test('several carries and steps, an integer carry, integer steps, outputs that nobody reads', async () => {
    const error = await gradientError(
      ([start, xs, other]) => {
        const ids = graph.constant('int64', [3], [2, 0, 1]);
        const { carry, outputs } = graph.scan(
          ([total, index], [x, y, id]) => {
            const weight = graph.cast(graph.add(index, id), 'float64');
            const next = graph.add(graph.multiply(total, y), graph.multiply(graph.sin(x), weight));
            return {
              carry: [next, graph.add(index, 1)],
              outputs: [graph.multiply(next, next), index, graph.exp(next)],
            };
          },
          [start, graph.scalar('int64', 1)],
          [xs, other, ids],
        );
        return graph.add(graph.sum(outputs[0]), carry[0]);
      },
      [{ shape: [] }, { shape: [3] }, { shape: [3] }],
      5,
    );
    expect(error).toBeLessThan(1e-6);
  });

  test('only an integer carry, and the second derivative', async () => {
    const xs = graph.input('xs', 'float64', [3]);
    const { outputs } = graph.scan(
      ([index], [x]) => ({
        carry: [graph.add(index, 1)],
        outputs: [graph.multiply(graph.square(x), graph.cast(index, 'float64'))],
      }),
      [graph.scalar('int64', 1)],
      [xs],
    );
    const [first] = graph.gradients(graph.sum(outputs[0]), [xs]);
    const [second] = graph.gradients(graph.sum(graph.square(first)), [xs]);
    const feeds = { xs: Float64Array.of(1, 2, 3) };
    expect(await numbersOf(first, feeds)).toEqual([2, 8, 18]);
    expect(await numbersOf(second, feeds)).toEqual([8, 64, 216]);
  });

  test('the second derivative through carries and captures', async () => {
    const error = await gradientError(
      ([xs, weight]) => {
        const { carry } = graph.scan(
          ([state], [x]) => ({
            carry: [graph.sin(graph.add(graph.multiply(state, weight), x))],
            outputs: [],
          }),
          [graph.scalar('float64', 0.3)],
          [xs],
        );
        const [forSteps, forWeight] = graph.gradients(carry[0], [xs, weight]);
        return graph.add(graph.sum(graph.square(forSteps)), forWeight);
      },
      [{ shape: [4] }, { shape: [] }],
      6,
    );
    expect(error).toBeLessThan(1e-6);
  });

  test('a loop in a loop, with tensors captured from both levels', async () => {
    const error = await gradientError(
      ([grid, weight]) => {
        const shared = graph.exp(weight);
        const { carry, outputs } = graph.scan(
          ([row], [line]) => {
            const factor = graph.multiply(row, shared);
            const inner = graph.scan(
              ([cellState], [x]) => {
                const next = graph.tanh(
                  graph.add(graph.multiply(cellState, factor), graph.multiply(x, weight)),
                );
                return { carry: [next], outputs: [graph.multiply(next, shared)] };
              },
              [row],
              [line],
            );
            return { carry: inner.carry, outputs: [graph.sum(inner.outputs[0])] };
          },
          [graph.scalar('float64', 0.5)],
          [grid],
        );
        return graph.add(graph.sum(outputs[0]), carry[0]);
      },
      [{ shape: [2, 3] }, { shape: [] }],
      7,
    );
    expect(error).toBeLessThan(1e-6);
  });

  test('inside a step: split, gather, topK, softplus, a normalisation and a matmul', async () => {
    const error = await gradientError(
      ([xs, table, weight]) => {
        const { outputs } = graph.scan(
          ([state], [x]) => {
            const [left, right] = graph.split(x, [2, 3], 0);
            const row = graph.gather(table, graph.constant('int64', [2], [1, 1]));
            const mixed = graph.matmul(graph.reshape(right, [1, 3]), row, { transposeB: true });
            const normal = graph.rmsNorm(graph.add(graph.softplus(left), graph.reshape(mixed, [2])), weight);
            const { values } = graph.topK(x, 1);
            return { carry: [graph.add(state, values)], outputs: [graph.multiply(normal, state)] };
          },
          [graph.fill('float64', [1], 1)],
          [xs],
        );
        return outputs[0];
      },
      [{ shape: [3, 5] }, { shape: [2, 3] }, { shape: [2] }],
      8,
    );
    expect(error).toBeLessThan(1e-6);
  });

  test('a custom gradient may use a tensor that its forward half does not', async () => {
    const xs = graph.input('xs', 'float64', [3]);
    const factor = graph.input('factor', 'float64', []);
    const { carry } = graph.scan(
      ([total], [x]) => ({
        carry: [
          graph.add(
            total,
            graph.customGradient(x, [x], (g) => [graph.multiply(g, graph.exp(factor))]),
          ),
        ],
        outputs: [],
      }),
      [graph.scalar('float64', 0)],
      [xs],
    );
    const [gradient] = graph.gradients(carry[0], [xs]);
    const feeds = { xs: Float64Array.of(1, 2, 3), factor: Float64Array.of(0) };
    expect(await numbersOf(gradient, feeds)).toEqual([1, 1, 1]);
  });

  test('stopGradient inside and outside a step', async () => {
    const xs = graph.input('xs', 'float64', [3]);
    const weight = graph.input('weight', 'float64', []);
    const frozen = graph.stopGradient(weight);
    const { carry } = graph.scan(
      ([total], [x]) => ({
        carry: [graph.add(total, graph.multiply(graph.multiply(x, frozen), graph.stopGradient(x)))],
        outputs: [],
      }),
      [graph.scalar('float64', 0)],
      [xs],
    );
    const [forSteps, forWeight] = graph.gradients(carry[0], [xs, weight]);
    expect(
      await evaluate(
        { forSteps: forSteps, forWeight: forWeight },
        { xs: Float64Array.of(1, 2, 3), weight: Float64Array.of(2) },
      ),
    ).toEqual({ forSteps: Float64Array.of(2, 4, 6), forWeight: Float64Array.of(0) });
  });
});

test('run-time lengths and run-time sizes inside the steps', async () => {
  const xs = graph.input('xs', 'float64', ['time', 2]);
  const weight = graph.input('weight', 'float64', ['width']);
  const { carry, outputs } = graph.scan(
    ([state], [x]) => ({
      carry: [graph.multiply(state, graph.sum(x))],
      outputs: [graph.multiply(graph.fill('float64', ['width'], 1), graph.sum(x))],
    }),
    [graph.scalar('float64', 1)],
    [xs],
  );
  const loss = graph.add(carry[0], graph.sum(graph.multiply(outputs[0], weight)));
  const [forSteps, forWeight] = graph.gradients(loss, [xs, weight]);
  const results = await evaluate(
    { loss, outputs: outputs[0], forSteps: forSteps, forWeight: forWeight },
    { xs: Float64Array.of(1, 2, 0, 2, 3, 1), weight: Float64Array.of(0.5, 1, 2) },
  );
  expect(results).toEqual({
    loss: Float64Array.of(3 * 2 * 4 + 3.5 * 9),
    outputs: Float64Array.of(3, 3, 3, 2, 2, 2, 4, 4, 4),
    forSteps: Float64Array.of(11.5, 11.5, 15.5, 15.5, 9.5, 9.5),
    forWeight: Float64Array.of(9, 9, 9),
  });
});

test('a constant output and a captured tensor as output are the same in every step', async () => {
  const xs = graph.input('xs', 'float32', [2]);
  const outside = graph.input('outside', 'float32', [2]);
  const { outputs } = graph.scan(
    ([state]) => ({
      carry: [state],
      outputs: [graph.constant('float32', [1], [7]), outside, graph.exp(outside)],
    }),
    [graph.scalar('float32', 0)],
    [xs],
  );
  const [constant, captured] = outputs;
  expect(
    await evaluate(
      { constant: constant, captured: captured },
      { outside: Float32Array.of(1, 2), xs: Float32Array.of(0, 0) },
    ),
  ).toEqual({ constant: Float32Array.of(7, 7), captured: Float32Array.of(1, 2, 1, 2) });
  const [gradient] = graph.gradients(graph.sum(graph.multiply(captured, 3)), [outside]);
  expect(await numbersOf(gradient, { outside: Float32Array.of(1, 2), xs: Float32Array.of(0, 0) })).toEqual([
    6, 6,
  ]);
});

test('nothing to loop over: the carry as it was and empty outputs', async () => {
  const xs = graph.input('xs', 'float32', [0, 2]);
  const start = graph.input('start', 'float32', [2]);
  const { carry, outputs } = graph.scan(
    ([s], [x]) => ({ carry: [graph.add(s, x)], outputs: [x] }),
    [start],
    [xs],
  );
  const feeds = { start: Float32Array.of(1, 2) };
  expect(await evaluate({ last: carry[0], outputs: outputs[0] }, feeds)).toEqual({
    last: feeds.start,
    outputs: new Float32Array(0),
  });
});

test('a body that does not fit is refused where it is written', () => {
  const xs = graph.input('xs', 'float32', [3, 2]);
  const start = graph.input('start', 'float32', [2]);
  const run = (body: Parameters<typeof graph.scan>[0]): unknown => graph.scan(body, [start], [xs]);
  expect(() => run(([s]) => ({ carry: [graph.reshape(s, [2, 1])], outputs: [] }))).toThrow(
    /carry 0 starts as float32\[2\] but a step makes float32\[2, 1\]/,
  );
  expect(() => run(([s]) => ({ carry: [s, s], outputs: [] }))).toThrow(/1 carries but a step makes 2/);
  expect(() => graph.scan(([s]) => ({ carry: [s], outputs: [] }), [start], [])).toThrow(
    /something to loop over/,
  );
  const longer = graph.input('longer', 'float32', [4]);
  expect(() => graph.scan(([s]) => ({ carry: [s], outputs: [] }), [start], [xs, longer])).toThrow(
    /float32\[3, 2\] and float32\[4\] differ in their first axis/,
  );
});
