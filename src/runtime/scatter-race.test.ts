import { expect, test } from 'vitest';
import { RandomStream, streamKey } from '../nn/random.js';
import { gather, gradients, input, multiply, scatterAdd, broadcastTo, reshape, sum } from '../graph/index.js';
import { randomNumbers } from '../../test/support/gradient-check.js';
import { compile } from './index.js';

// ONNX Runtime's ScatterND races on duplicate indices (microsoft/onnxruntime#18048): 59 of 60 runs differed there.
// Anything that lowers to it would fail here.
const ROWS = 4096;
const WIDTH = 64;
/** Large enough that the gradient of `gather` is a scatter, and no product with a one-hot matrix. */
const TABLE = 2048;
const RUNS = 50;

/** Skewed like words: a few rows take most of the hits. */
function skewedRows(): Int32Array {
  const random = new RandomStream(streamKey(20_261_124, 'scatter'));
  return Int32Array.from({ length: ROWS }, () => Math.floor(TABLE * random.uniform() ** 4));
}

test('scatterAdd and the gradient of gather: the same bits on two threads, 50 times', async () => {
  const table = input('table', 'float32', [TABLE, WIDTH]);
  const rows = input('rows', 'int32', [ROWS]);
  const updates = input('updates', 'float32', [ROWS, WIDTH]);
  const spread = broadcastTo(reshape(rows, [ROWS, 1]), [ROWS, WIDTH]);
  const [gradient] = gradients(sum(multiply(gather(table, rows), updates)), [table]);
  const program = await compile(
    { scattered: scatterAdd(table, spread, updates, 0), gradient: gradient },
    { threads: 2 },
  );
  const ids = skewedRows();
  const values = Float32Array.from(randomNumbers(1, ROWS * WIDTH));
  const expected = new Float32Array(TABLE * WIDTH);
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < WIDTH; column++)
      expected[ids[row] * WIDTH + column] += values[row * WIDTH + column];
  }
  program.bind({ table: new Float32Array(TABLE * WIDTH), rows: ids, updates: values });
  expect(new Set(ids).size).toBeLessThan(TABLE);
  for (let i = 0; i < RUNS; i++) {
    const { scattered, gradient: derived } = await program.run();
    // Added up in the order of the rows, as the plain loop does it: equal to the last bit.
    expect(Buffer.compare(bytes(scattered), bytes(expected)), `scatterAdd, run ${i}`).toBe(0);
    expect(Buffer.compare(bytes(derived), bytes(expected)), `gradient of gather, run ${i}`).toBe(0);
  }
  await program.release();
});

test('the gradient of a small table: the same bits on two threads, 50 times, duplicates added up', async () => {
  const rowCount = 128;
  const table = input('table', 'float32', [rowCount, WIDTH]);
  const rows = input('rows', 'int32', [ROWS]);
  const updates = input('updates', 'float32', [ROWS, WIDTH]);
  const [gradient] = gradients(sum(multiply(gather(table, rows), updates)), [table]);
  const program = await compile({ gradient: gradient }, { threads: 2 });
  const ids = skewedRows().map((id) => id % rowCount);
  const values = Float32Array.from(randomNumbers(1, ROWS * WIDTH));
  const expected = new Float64Array(rowCount * WIDTH);
  values.forEach((value, at) => (expected[ids[Math.floor(at / WIDTH)] * WIDTH + (at % WIDTH)] += value));
  program.bind({ rows: ids, updates: values });
  expect(Buffer.from(program.bytes).includes('Scatter')).toBe(false);
  const derivedFirst = (await program.run()).gradient as Float32Array;
  const worst = derivedFirst.reduce((most, value, at) => Math.max(most, Math.abs(value - expected[at])), 0);
  expect(worst).toBeLessThan(1e-3);
  const first = bytes(derivedFirst).toString('base64');
  for (let i = 0; i < RUNS; i++) {
    const { gradient: derived } = await program.run();
    expect(bytes(derived).toString('base64')).toBe(first);
  }
  await program.release();
});

function bytes({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}
