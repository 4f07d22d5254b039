import { expect, test } from 'vitest';
import { evaluate, numbersOf } from '../../test/support/evaluate.js';
import { lower } from '../runtime/index.js';
import * as graph from './index.js';
import { applyOne } from './operator.js';

const x = graph.input('x', 'float64', [3]);
const feeds = { x: Float64Array.of(1, 2, 3) };

test('a leaf that is used twice gets one gradient, the sum of both uses', async () => {
  const [gradient] = graph.gradients(graph.sum(graph.add(graph.multiply(x, x), x)), [x]);
  expect(await numbersOf(gradient, feeds)).toEqual([3, 5, 7]);
});

test('a source that the loss does not depend on gets zeros of its shape', async () => {
  const other = graph.input('other', 'float32', [2, 2]);
  const [forX, forOther] = graph.gradients(graph.sum(x), [x, other]);
  expect(await evaluate({ forX: forX, forOther: forOther })).toEqual({
    forX: Float64Array.of(1, 1, 1),
    forOther: new Float32Array(4),
  });
});

test('intermediate tensors are sources as well, also where one lies behind the other', async () => {
  const middle = graph.multiply(x, 3);
  const [forMiddle, forX] = graph.gradients(graph.sum(graph.square(middle)), [middle, x]);
  expect(await evaluate({ forMiddle: forMiddle, forX: forX }, feeds)).toEqual({
    forMiddle: Float64Array.of(6, 12, 18),
    forX: Float64Array.of(18, 36, 54),
  });
});

test('the loss itself is a source with gradient 1', async () => {
  const loss = graph.sum(x);
  expect(await numbersOf(graph.gradients(loss, [loss])[0])).toEqual([1]);
});

test('stopGradient: the same numbers, no gradient, and no node', async () => {
  const stopped = graph.stopGradient(graph.exp(x));
  const loss = graph.sum(graph.multiply(stopped, x));
  const [gradient] = graph.gradients(loss, [x]);
  const { value, derived } = await evaluate({ value: stopped, derived: gradient }, feeds);
  expect(derived).toEqual(value);
  expect(lower({ stopped }).graph.nodes.map((node) => node.type)).toEqual(['Exp']);
});

test('customGradient: the rule replaces everything between inputs and output', async () => {
  const doubled = graph.multiply(graph.floor(x), 2);
  const y = graph.customGradient(doubled, [x], (g) => [graph.multiply(g, 10)]);
  const [gradient] = graph.gradients(graph.sum(graph.multiply(y, y)), [x]);
  expect(await evaluate({ y, gradient: gradient }, feeds)).toEqual({
    y: Float64Array.of(2, 4, 6),
    gradient: Float64Array.of(40, 80, 120),
  });
  const wrong = graph.customGradient(doubled, [x], (g) => [graph.sum(g)]);
  expect(() => graph.gradients(graph.sum(wrong), [x])).toThrow(
    /float64\[3\] but its gradient is float64\[\]/,
  );
  const silent = graph.customGradient(doubled, [x], () => [undefined]);
  expect(await numbersOf(graph.gradients(graph.sum(silent), [x])[0], {})).toEqual([0, 0, 0]);
});

test('seeds weigh several outputs', async () => {
  const seed = graph.input('seed', 'float64', [3]);
  const outputs = [graph.square(x), graph.sum(x)];
  const [gradient] = graph.gradients(outputs, [x], { seeds: [seed, graph.scalar('float64', 100)] });
  expect(await numbersOf(gradient, { ...feeds, seed: Float64Array.of(1, 0, 2) })).toEqual([102, 100, 112]);
});

test('what cannot be differentiated is refused with a reason', () => {
  const ids = graph.input('ids', 'int64', [3]);
  expect(() => graph.gradients(graph.square(x), [x])).toThrow(
    /output float64\[3\] is not a scalar; give its seed/,
  );
  expect(() => graph.gradients(graph.sum(x), [ids])).toThrow(/gradients: int64\[3\] is not floating point/);
  expect(() => graph.gradients(graph.sum(ids), [x])).toThrow(/output int64\[\] is not floating point/);
  expect(() => graph.gradients(x, [x], { seeds: [graph.sum(x)] })).toThrow(
    /float64\[3\] but its gradient is float64\[\]/,
  );
  expect(() => graph.gradients([graph.sum(x), graph.sum(x)], [x], { seeds: [graph.sum(x)] })).toThrow(
    /1 seeds for 2 outputs/,
  );
  const opaque = applyOne({ name: 'opaque' }, [x], x);
  expect(() => graph.gradients(graph.sum(opaque), [x])).toThrow(
    /operator 'opaque' has no gradient; use stopGradient/,
  );
  // Beside the path from source to loss, it does not matter.
  const y = graph.input('y', 'float64', [3]);
  expect(() => graph.gradients(graph.sum(graph.multiply(opaque, y)), [y])).not.toThrow();
  expect(() => graph.gradients(graph.sum(graph.stopGradient(opaque)), [x])).not.toThrow();
});

test('a chain of 20,000 nodes is differentiated and lowered without recursion', () => {
  let y = x;
  for (let i = 0; i < 20_000; i++) y = graph.sin(y);
  const loss = graph.sum(y);
  const [gradient] = graph.gradients(loss, [x]);
  // Forward: 20,000 sines and a sum; backward: a cosine and a product each, and the spreading of the sum.
  expect(lower({ loss, gradient: gradient }).graph.nodes.length).toBeGreaterThanOrEqual(60_001);
});

test('a chain of 1,500 nodes runs', async () => {
  let y = x;
  for (let i = 0; i < 1500; i++) y = graph.multiply(y, 1.001);
  const [gradient] = graph.gradients(graph.sum(y), [x]);
  const [first] = await numbersOf(gradient);
  expect(first).toBeCloseTo(1.001 ** 1500, 9);
});
