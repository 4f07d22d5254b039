import { expect, test } from 'vitest';
import { add, divide, exp, input, multiply, sqrt, subtract } from '../graph/index.js';
import { FlatMemory } from './flat-memory.js';
import { compileElementwise, compileSumOfSquares } from './simd.js';

const vector = (name: string) => input(name, 'float32', ['elements']);

test('an elementwise graph computes what a plain loop does, rounding every operation to float32', () => {
  const memory = FlatMemory.reserve(3 * 1024);
  const [a, b] = [memory.take(1000), memory.take(1000)];
  const untouched = memory.take(16).fill(7);
  for (let i = 0; i < a.length; i++) {
    a[i] = Math.sin(i) * 3;
    b[i] = Math.abs(Math.cos(i)) + 0.5;
  }
  const before = { a: a.slice(), b: b.slice() };
  const [x, y, s] = [vector('a'), vector('b'), input('s', 'float32', [])];
  const root = sqrt(y);
  const next = divide(subtract(multiply(x, s), 0.25), add(root, 1e-3));
  const kernel = compileElementwise({ a: next, b: root }, memory.memory!);
  kernel.run({ a, b }, { s: 1.5 }, 8, 996);
  const f = Math.fround;
  for (let i = 0; i < a.length; i++) {
    const inside = i >= 8 && i < 996;
    const expectedRoot = f(Math.sqrt(before.b[i]));
    const expected = f(f(f(before.a[i] * 1.5) - 0.25) / f(expectedRoot + f(1e-3)));
    expect(a[i]).toBe(inside ? expected : before.a[i]);
    expect(b[i]).toBe(inside ? expectedRoot : before.b[i]);
  }
  expect([...untouched]).toEqual(new Array(16).fill(7));
});

test('an operator without a SIMD form is refused by name', () => {
  const memory = FlatMemory.reserve(16);
  expect(() => compileElementwise({ a: exp(vector('a')) }, memory.memory!)).toThrow(/'exp'/);
});

test('the sum of squares is added up in double precision', () => {
  const memory = FlatMemory.reserve(1 << 16);
  const data = memory.take(1 << 16);
  // In float32 the small squares would vanish beside the large one.
  data.fill(1e-4)[0] = 1000;
  const expected = 1e6 + (data.length - 1) * Math.fround(1e-4) ** 2;
  expect(compileSumOfSquares(memory.memory!)(data)).toBeCloseTo(expected, 6);
});

test('flat memory hands out aligned zeroed arrays, and ordinary ones when it is full or would pass 4 GiB', () => {
  const memory = FlatMemory.reserve(100);
  const [first, second] = [memory.take(10), memory.take(10)];
  expect([...first, ...second].every((value) => value === 0)).toBe(true);
  expect(second.byteOffset % 64).toBe(0);
  expect(second.byteOffset).toBeGreaterThanOrEqual(first.byteOffset + first.byteLength);
  expect(memory.holds(first)).toBe(true);
  expect(memory.holds(memory.take(1 << 20))).toBe(false);
  const tooLarge = FlatMemory.reserve(2 ** 30 + 1);
  expect(tooLarge.memory).toBeUndefined();
  expect(tooLarge.holds(tooLarge.take(4))).toBe(false);
});
