import { expect, test } from 'vitest';
import { compile } from '../runtime/index.js';
import {
  add,
  constant,
  input,
  inputName,
  matmul,
  multiply,
  splitStages,
  stack,
  topologicalOrder,
} from './index.js';

const x = input('x', 'float32', [2]);
const weight = input('weight', 'float32', [2]);
const first = input('first', 'float32', [2]);
const second = input('second', 'float32', [2]);
const isFixed = (name: string): boolean => name === 'weight';

function feedsOf(tensors: Readonly<Record<string, ReturnType<typeof input>>>): string[] {
  const leaves = topologicalOrder(Object.values(tensors)).flatMap((node) => inputName(node.outputs[0]) ?? []);
  return leaves.sort();
}

test('stages make what their cut needs, and pass on what later ones read', async () => {
  const scaled = multiply(x, weight);
  const afterFirst = add(scaled, first);
  const afterSecond = add(multiply(afterFirst, weight), add(second, scaled));
  const stages = splitStages(
    { early: multiply(scaled, 2), late: afterSecond },
    [
      { placeholder: first, needs: { rows: scaled } },
      { placeholder: second, needs: { rows: afterFirst } },
    ],
    isFixed,
  );
  expect(stages.map((stage) => Object.keys(stage.outputs))).toEqual([['early'], [], ['late']]);
  expect(stages.map((stage) => Object.keys(stage.needs))).toEqual([['rows'], ['rows'], []]);
  expect(stages.map((stage) => feedsOf({ ...stage.outputs, ...stage.needs, ...stage.crossing }))).toEqual([
    ['weight', 'x'],
    ['crossing.0', 'first'],
    ['crossing.0', 'crossing.1', 'second', 'weight'],
  ]);

  // Run by hand, with +100 and +1000 as the work between the stages.
  const values: Record<string, Float32Array> = {
    x: Float32Array.of(1, 2),
    weight: Float32Array.of(3, 5),
  };
  const results: Record<string, Float32Array> = {};
  for (const [index, stage] of stages.entries()) {
    const program = await compile({ ...stage.outputs, ...stage.needs, ...stage.crossing });
    program.bindKnown(Object.entries(values));
    const made = (await program.run()) as Record<string, Float32Array>;
    for (const [name, data] of Object.entries(made)) results[name] = values[name] = data.slice();
    if ('rows' in made)
      values[['first', 'second'][index]] = made['rows'].map((value) => value + [100, 1000][index]);
    await program.release();
  }
  // scaled = [3, 10]; first = [103, 110]; afterFirst = [106, 120]; second = [1106, 1120]
  expect([...results['early']]).toEqual([6, 20]);
  expect([...results['late']]).toEqual([106 * 3 + 1106 + 3, 120 * 5 + 1120 + 10]);
});

test('what is computed from weights alone is computed where it is read; nothing runs before it is needed', () => {
  const own = matmul(stack([weight, weight]), constant('float32', [2, 1], [1, 1]));
  const lateOnly = multiply(x, 7);
  const stages = splitStages(
    { y: add(add(first, lateOnly), multiply(own, lateOnly)) },
    [{ placeholder: first, needs: { rows: multiply(own, multiply(x, 2)) } }],
    isFixed,
  );
  expect(stages[0].crossing).toEqual({});
  expect(feedsOf(stages[1].outputs)).toEqual(['first', 'weight', 'x']);
});

test('a cut that needs what it makes is refused', () => {
  const split = () =>
    splitStages({ y: first }, [{ placeholder: first, needs: { rows: add(first, 1) } }], isFixed);
  expect(split).toThrow("cut 0 needs 'rows', which depends on cut 0");
});
