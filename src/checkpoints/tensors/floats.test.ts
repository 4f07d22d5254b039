import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { encodeFloats, saveSafetensors, type StoredArray, type StoredDType } from '../safetensors/index.js';
import { openTensors, readFloats, type TensorSource } from './index.js';

let folder: string;
let source: TensorSource;
const numbers = Float32Array.of(0, -0.5, 1.5, 3, -4, 0.25);
const stored: Partial<Record<StoredDType, StoredArray>> = {
  F64: Float64Array.from(numbers),
  F32: numbers,
  F16: encodeFloats('F16', numbers),
  BF16: encodeFloats('BF16', numbers),
  F8_E5M2: Uint8Array.from(encodeFloats('F16', numbers) as Uint16Array, (bits) => bits >> 8),
  I64: BigInt64Array.from(numbers, (x) => BigInt(Math.trunc(x))),
  I32: Int32Array.from(numbers),
  BOOL: Uint8Array.from(numbers, (x) => Number(x > 0)),
  C64: new Float32Array(12),
};

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-floats-'));
  const path = join(folder, 'model.safetensors');
  const tensors = Object.entries(stored).map(([dtype, data]) => ({
    name: dtype,
    dtype: dtype as StoredDType,
    shape: [3, 2],
    data,
  }));
  // More elements than are converted at a time, and a row that alone is more.
  const large = Float32Array.from({ length: 5_000_000 }, (_, i) => i % 251);
  const bits = encodeFloats('BF16', large);
  await saveSafetensors(path, [
    ...tensors,
    { name: 'tall', dtype: 'BF16', shape: [1_000_000, 5], data: bits },
    { name: 'wide', dtype: 'BF16', shape: [1, 5_000_000], data: bits },
    { name: 'scalar', dtype: 'F64', shape: [], data: Float64Array.of(1 / 3) },
    { name: 'empty', dtype: 'F16', shape: [0, 4], data: new Uint16Array(0) },
  ]);
  source = await openTensors(path);
});
afterAll(async () => {
  await source.close();
  await rm(folder, { recursive: true, force: true });
});

it.each(['F64', 'F32', 'F16', 'BF16', 'F8_E5M2'])('%s comes as float32, whole and by rows', async (dtype) => {
  expect(await readFloats(source, dtype)).toEqual(numbers);
  expect(await readFloats(source, dtype, { rows: [1, 3] })).toEqual(numbers.subarray(2));
  expect(await readFloats(source, dtype, { rows: [2, 2] })).toEqual(new Float32Array(0));
  const into = new Float32Array(4);
  expect(await readFloats(source, dtype, { rows: [0, 1], into: into.subarray(1, 3) })).toEqual(
    Float32Array.of(0, -0.5),
  );
  expect([...into]).toEqual([0, 0, -0.5, 0]);
  await expect(readFloats(source, dtype, { into })).rejects.toMatchObject({ code: 'target' });
  for (const rows of [
    [0, 4],
    [-1, 1],
    [0, 1.5],
    [0, 1e15],
  ] as const)
    await expect(readFloats(source, dtype, { rows })).rejects.toMatchObject({ code: 'target' });
});

it('a double is rounded to the nearest float', async () => {
  expect(await readFloats(source, 'scalar')).toEqual(Float32Array.of(1 / 3));
  expect(await readFloats(source, 'empty')).toEqual(new Float32Array(0));
});

it('a large tensor is converted in pieces', async () => {
  for (const name of ['tall', 'wide']) {
    const read = await readFloats(source, name);
    expect(read.every((value, i) => value === i % 251)).toBe(true);
    expect(read.length).toBe(5_000_000);
  }
  const rows = await readFloats(source, 'tall', { rows: [7, 1_000_000] });
  expect([rows.length, rows[0]]).toEqual([4_999_965, 35]);
  await expect(readFloats(source, 'tall', { into: new Float32Array(1) })).rejects.toMatchObject({
    code: 'target',
  });
});

it('integers come where they are allowed, and nothing else', async () => {
  expect(await readFloats(source, 'I64', { integers: true })).toEqual(Float32Array.of(0, 0, 1, 3, -4, 0));
  expect(await readFloats(source, 'I32', { integers: true })).toEqual(Float32Array.of(0, 0, 1, 3, -4, 0));
  expect(await readFloats(source, 'BOOL', { integers: true })).toEqual(Float32Array.of(0, 0, 1, 1, 0, 1));
  await expect(readFloats(source, 'I64')).rejects.toThrow(
    'tensor "I64" is I64: integers, where floats are wanted',
  );
  await expect(readFloats(source, 'C64', { integers: true })).rejects.toMatchObject({ code: 'convert' });
  await expect(readFloats(source, 'none')).rejects.toMatchObject({ code: 'missing' });
});
