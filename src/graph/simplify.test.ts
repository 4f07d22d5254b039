import { expect, test } from 'vitest';
import { evaluate } from '../../test/support/evaluate.js';
import { lower } from '../runtime/index.js';
import * as graph from './index.js';

const x = graph.input('x', 'float32', [2]);

/** Operator types of the lowered graph, sorted. */
function typesOf(outputs: Record<string, graph.Tensor>): string[] {
  return lower(outputs)
    .graph.nodes.map((node) => node.type)
    .sort();
}

test('equal subgraphs become one, however deep', () => {
  const branch = (): graph.Tensor => graph.exp(graph.multiply(graph.sin(x), graph.cos(x)));
  expect(typesOf({ y: graph.add(branch(), branch()) })).toEqual(['Add', 'Cos', 'Exp', 'Mul', 'Sin']);
});

test('outputs that are equal share their computation; each is still fetched', async () => {
  const outputs = { a: graph.exp(x), b: graph.exp(x), same: x };
  expect(typesOf(outputs)).toEqual(['Exp', 'Identity', 'Identity']);
  const data = Float32Array.of(0, 1);
  const results = await evaluate(outputs, { x: data });
  expect(results.a).toEqual(results.b);
  expect(results.a).not.toBe(results.b);
  expect(results.same).toEqual(data);
});

test('nothing that no output needs is lowered', () => {
  const unused = graph.exp(x);
  const [gradient, unusedGradient] = graph.gradients(graph.sum(graph.multiply(graph.sin(x), 2)), [x, x]);
  expect(unused.rank + unusedGradient.rank).toBe(2);
  expect(typesOf({ gradient: gradient })).not.toContain('Exp');
  expect(typesOf({ gradient: gradient })).not.toContain('Sin');
});

test('the forward half of a custom gradient is lowered once', () => {
  const y = graph.softplus(x);
  expect(typesOf({ y, again: graph.softplus(x) }).filter((type) => type === 'Exp')).toHaveLength(1);
});

test('different attributes, dtypes and shapes keep nodes apart', () => {
  const matrix = graph.input('m', 'float32', [2, 2]);
  expect(
    typesOf({ a: graph.sum(matrix, 0), b: graph.sum(matrix, 1), c: graph.sum(matrix, 0, true) }),
  ).toHaveLength(3);
  expect(
    typesOf({
      a: graph.fill('float32', [2], 1),
      b: graph.fill('float64', [2], 1),
      c: graph.fill('float32', [3], 1),
    }),
  ).toHaveLength(3);
  const { values, indices } = graph.topK(x, 1);
  const other = graph.topK(x, 1, { largest: false });
  expect(typesOf({ values, indices, other: other.values })).toEqual(['TopK', 'TopK']);
});

test('two noise inputs stay two, whatever they are called', async () => {
  const noise = [graph.input('noise.0', 'float32', [2]), graph.input('noise.1', 'float32', [2])];
  const [a, b] = noise.map((tensor) => graph.multiply(x, tensor));
  expect(typesOf({ a: a, b: b })).toEqual(['Mul', 'Mul']);
  expect(
    lower({ a: a, b: b })
      .feeds.map((feed) => feed.name)
      .sort(),
  ).toEqual(['noise.0', 'noise.1', 'x']);
  const twin = graph.input('x', 'float32', [2]);
  await expect(evaluate({ y: graph.add(x, twin) })).rejects.toThrow(
    /two different inputs of one program are called 'x'/,
  );
});

test('−0, NaN and infinite constants stay what they are', async () => {
  const values = [0, -0, NaN, Infinity, -Infinity];
  const inverse = (value: number): graph.Tensor => graph.divide(x, graph.scalar('float32', value));
  const filled = (value: number): graph.Tensor => graph.multiply(x, graph.fill('float32', [2], value));
  const vector = (value: number): graph.Tensor =>
    graph.multiply(x, graph.constant('float32', [2], [1, value]));
  const outputs = Object.fromEntries(
    values.flatMap((value, i) => [
      [`i${i}`, inverse(value)],
      [`f${i}`, filled(value)],
      [`v${i}`, vector(value)],
    ]),
  );
  const results = await evaluate(outputs, { x: Float32Array.of(1, 2) });
  values.forEach((value, i) => {
    expect(results[`i${i}`]).toEqual(Float32Array.of(1 / value, 2 / value));
    expect(results[`f${i}`]).toEqual(Float32Array.of(value, 2 * value));
    expect(results[`v${i}`]).toEqual(Float32Array.of(1, 2 * value));
  });
});

test('long constants are not compared, short ones are shared', () => {
  const long = (): graph.Tensor => graph.constant('float32', [100], new Float32Array(100));
  const short = (): graph.Tensor => graph.constant('float32', [2], [1, 2]);
  const wide = graph.input('wide', 'float32', [100]);
  expect(
    typesOf({ a: graph.add(wide, long()), b: graph.add(wide, long()) }).filter((type) => type === 'Add'),
  ).toHaveLength(2);
  expect(
    typesOf({ y: graph.add(graph.multiply(x, short()), graph.multiply(x, short())) }).filter(
      (type) => type === 'Mul',
    ),
  ).toHaveLength(1);
});

test('the order of nodes is the same every time', () => {
  const build = (): Record<string, graph.Tensor> => {
    const a = graph.input('a', 'float32', [2, 3]);
    const loss = graph.sum(graph.multiply(graph.softmax(a), graph.tanh(a)));
    return { loss, gradient: graph.gradients(loss, [a])[0] };
  };
  const [first, second] = [lower(build()), lower(build())];
  expect(second.graph.nodes).toEqual(first.graph.nodes);
});
