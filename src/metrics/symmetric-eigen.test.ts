import { expect, test } from 'vitest';
import { fillNormal, streamKey } from '../nn/index.js';
import { symmetricEigen } from './symmetric-eigen.js';

function randomSymmetric(size: number, scale = 1): Float64Array {
  const numbers = new Float64Array(size * size);
  fillNormal(streamKey('symmetric', size), numbers, scale);
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) numbers[j * size + i] = numbers[i * size + j];
  return numbers;
}

function expectEigen(matrix: Float64Array, size: number): Float64Array {
  const { values, vectors } = symmetricEigen(matrix, size);
  const scale = Math.max(...matrix.map(Math.abs), Number.MIN_VALUE);
  for (let i = 0; i < size; i++) {
    if (i > 0) expect(values[i]).toBeLessThanOrEqual(values[i - 1]);
    for (let j = 0; j < size; j++) {
      let [inner, image] = [0, 0];
      for (let k = 0; k < size; k++) {
        inner += vectors[i * size + k] * vectors[j * size + k];
        image += matrix[j * size + k] * vectors[i * size + k];
      }
      expect(Math.abs(inner - Number(i === j))).toBeLessThan(1e-13 * size);
      expect(Math.abs(image - values[i] * vectors[i * size + j]) / scale).toBeLessThan(1e-13 * size);
    }
  }
  return values;
}

test('by hand', () => {
  const values = expectEigen(Float64Array.of(2, 1, 1, 2), 2);
  expect(values[0]).toBeCloseTo(3, 14);
  expect(values[1]).toBeCloseTo(1, 14);
  expect([...symmetricEigen(Float64Array.of(-4), 1).values]).toEqual([-4]);
  expect([...symmetricEigen(new Float64Array(0), 0).values]).toEqual([]);
});

test.each([3, 10, 47])('%i rows at random, of usual, huge and tiny size', (size) => {
  for (const scale of [1, 1e120, 1e-120]) expectEigen(randomSymmetric(size, scale), size);
});

test('equal eigenvalues, none but zero, diagonal and low rank', () => {
  expectEigen(new Float64Array(36), 6);
  expectEigen(
    Float64Array.from({ length: 36 }, (_, i) => Number(i % 7 === 0) * ((i / 7) % 3)),
    6,
  );
  const ones = expectEigen(new Float64Array(64).fill(1), 8);
  expect(ones[0]).toBeCloseTo(8, 12);
  expect(Math.abs(ones[1])).toBeLessThan(1e-12);
});

test('eigenvalues over twenty orders of magnitude', () => {
  const size = 60;
  const matrix = randomSymmetric(size).map(
    (x, i) => x * 10 ** -(Math.floor(i / size) / 3) * 10 ** -((i % size) / 3),
  );
  expectEigen(matrix, size);
});

test('the eigenvalues of the second difference are known', () => {
  const size = 40;
  const matrix = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    matrix[i * size + i] = 2;
    if (i > 0) matrix[i * size + i - 1] = matrix[(i - 1) * size + i] = -1;
  }
  const values = expectEigen(matrix, size);
  values.forEach((value, i) =>
    expect(value).toBeCloseTo(2 - 2 * Math.cos(((size - i) * Math.PI) / (size + 1)), 12),
  );
});

test('what is not a number is refused', () => {
  expect(() => symmetricEigen(Float64Array.of(NaN), 1)).toThrow('finite');
});
