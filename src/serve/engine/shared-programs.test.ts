import { expect, test } from 'vitest';
import { add, input, matmul, multiply, type Tensor } from '../../graph/index.js';
import { SharedPrograms } from './shared-programs.js';

const layer = (index: number, factor = 2): { [name: string]: Tensor } => {
  const x = input(`x${index}`, 'float32', [1, 2]);
  const product = matmul(x, input(`layers.${index}.weight`, 'float32', [2, 2]));
  return { [`y${index}`]: multiply(product, factor), [`z${index}`]: add(product, x) };
};

test('equal graphs share a session and nothing else', async () => {
  const programs = new SharedPrograms();
  const [first, second, other] = [
    await programs.open(layer(0)),
    await programs.open(layer(1)),
    await programs.open(layer(2, 3)),
  ];
  expect(programs.size).toBe(2);
  expect(second.feedNames.toSorted()).toEqual(['layers.1.weight', 'x1']);
  first.bindKnown([['layers.0.weight', Float32Array.of(1, 0, 0, 1)]]);
  second.bindKnown([
    ['layers.0.weight', Float32Array.of(9, 9, 9, 9)],
    ['layers.1.weight', Float32Array.of(0, 1, 1, 0)],
  ]);
  const kept = new Float32Array(2);
  second.bindOutput('z1', kept);
  const [a, b] = [
    await first.run({ x0: Float32Array.of(1, 2) }),
    await second.run({ x1: Float32Array.of(3, 4) }),
  ];
  expect(Object.entries(a).map(([name, data]) => [name, ...data])).toEqual([
    ['y0', 2, 4],
    ['z0', 2, 4],
  ]);
  expect([...b['y1']]).toEqual([8, 6]);
  expect([...kept]).toEqual([7, 7]);
  await expect(other.run({})).rejects.toThrow('feeds not given');
  await first.release();
  expect([...(await second.run({ x1: Float32Array.of(1, 1) }))['y1']]).toEqual([2, 2]);
  await second.release();
  await other.release();
  await programs.release();
});
