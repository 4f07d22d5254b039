import { describe, expect, test } from 'vitest';
import { add, multiply } from '../graph/index.js';
import { fillNormal } from '../nn/index.js';
import { FlatMemory } from '../runtime/index.js';
import { FlatPass, flatScalar, flatVector, SumOfSquares } from './flat-pass.js';

/** More than two chunks of the slow way. */
const LENGTH = 300_000;
const nowhere = (): FlatMemory => FlatMemory.reserve(2 ** 40);

function filled(memory: FlatMemory, key: number, length = LENGTH): Float32Array {
  const data = memory.take(length);
  fillNormal(key, data);
  return data;
}

describe('FlatPass', () => {
  test.each([
    ['WebAssembly memory', () => FlatMemory.reserve(2 * LENGTH)],
    ['ordinary arrays', nowhere],
  ])('computes a range in place, with scalars, in %s', async (_, reserve) => {
    const memory = reserve();
    const [x, y] = [filled(memory, 1), filled(memory, 2)];
    const [beforeX, beforeY] = [x.slice(), y.slice()];
    const outputs = { x: add(multiply(flatVector('x'), flatScalar('factor')), flatVector('y')) };
    const pass = new FlatPass(outputs, memory, undefined);
    const [start, end] = [4, LENGTH - 8];
    await pass.run({ x, y }, { factor: 0.5 }, { start, end });
    await pass.run({ x, y }, { factor: 2 }, { start, end });
    expect(y).toEqual(beforeY);
    const f = Math.fround;
    const expected = beforeX.map((value, i) => {
      if (i < start || i >= end) return value;
      return f(f(2 * f(f(0.5 * value) + beforeY[i])) + beforeY[i]);
    });
    expect(Buffer.compare(Buffer.from(x.slice().buffer), Buffer.from(expected.buffer))).toBe(0);
    await pass.release();
  });

  test('a length that SIMD cannot take goes the other way', async () => {
    const memory = FlatMemory.reserve(64);
    const x = filled(memory, 3, 7);
    const before = x.slice();
    const vector = flatVector('x');
    const pass = new FlatPass({ x: add(vector, vector) }, memory, 1);
    await pass.run({ x }, {});
    expect(x).toEqual(before.map((value) => 2 * value));
    await pass.release();
  });
});

describe('SumOfSquares', () => {
  test.each([
    ['WebAssembly memory', () => FlatMemory.reserve(LENGTH)],
    ['ordinary arrays', nowhere],
  ])('equals the sum in double precision, in %s', async (_, reserve) => {
    const memory = reserve();
    const data = filled(memory, 4);
    const norm = new SumOfSquares(memory, undefined);
    const expected = data.reduce((sum, value) => sum + value * value, 0);
    const first = await norm.of(data);
    expect(Math.abs(first / expected - 1)).toBeLessThan(1e-6);
    expect(await norm.of(data)).toBe(first);
    data[LENGTH - 1] = NaN;
    expect(await norm.of(data)).toBeNaN();
    await norm.release();
  });

  test('what fits float32 only as a sum of squares in double precision is not infinite', async () => {
    const memory = FlatMemory.reserve(16);
    const data = memory.take(16).fill(1e20);
    const norm = new SumOfSquares(memory, undefined);
    expect((await norm.of(data)) / 16e40).toBeCloseTo(1, 6);
  });
});
