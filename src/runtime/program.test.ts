import { describe, expect, test } from 'vitest';
import { evaluate } from '../../test/support/evaluate.js';
import * as graph from '../graph/index.js';
import type { Tensor } from '../graph/index.js';
import { compile, type TensorData } from './index.js';

const x = graph.input('x', 'float32', [2, 3]);
const w = graph.input('w', 'float32', [3]);
const product = graph.multiply(x, w);

describe('feeds', () => {
  test('missing, unknown, of the wrong size, of the wrong dtype: one clear error each', async () => {
    const program = await compile({ product });
    expect([...program.feedNames].sort()).toEqual(['w', 'x']);
    await expect(program.run()).rejects.toThrow(/feeds not given: x, w/);
    await expect(program.run({ x: new Float32Array(6) })).rejects.toThrow(/feeds not given: w/);
    expect(() => program.bind({ y: new Float32Array(3) })).toThrow(/no feed 'y'; its feeds are: x, w/);
    expect(() => program.bind({ w: new Float32Array(4) })).toThrow(
      /'w' is float32\[3\] but was given 4 numbers/,
    );
    expect(() => program.bind({ w: new Float64Array(3) })).toThrow(
      /'w' is float32\[3\] but was given a Float64Array/,
    );
    expect(() => program.bindOutput('z', new Float32Array(6))).toThrow(/no output 'z'/);
    expect(() => program.bindOutput('product', new Float32Array(5))).toThrow(
      /float32\[2, 3\] but was given 5 numbers/,
    );
    // What was refused left nothing behind.
    const { product: result } = await program.run({ w: Float32Array.of(1, 2, 3) });
    expect(result).toEqual(new Float32Array(6));
    await program.release();
  });

  test('bindKnown passes over what the program does not use', async () => {
    const program = await compile({ product });
    program.bindKnown([
      ['other', new Float64Array(1)],
      ['x', new Float32Array(6).fill(2)],
      ['w', Float32Array.of(1, 2, 3)],
    ]);
    expect((await program.run()).product).toEqual(Float32Array.of(2, 4, 6, 2, 4, 6));
    await program.release();
  });

  test('a bound buffer is read where it lies: a change is seen by the next run', async () => {
    const program = await compile({ product });
    const weights = Float32Array.of(1, 1, 1);
    program.bind({ x: Float32Array.of(1, 2, 3, 4, 5, 6), w: weights });
    expect((await program.run()).product).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    weights[1] = 10;
    expect((await program.run()).product).toEqual(Float32Array.of(1, 20, 3, 4, 50, 6));
    await program.release();
  });

  test('every dtype is fed and fetched', async () => {
    const dtypes = ['float32', 'float64', 'int32', 'int64', 'bool'] as const;
    const outputs = Object.fromEntries(
      dtypes.map((dtype) => [dtype, graph.transpose(graph.input(dtype, dtype, [2, 2]))]),
    );
    const feeds: Record<string, TensorData> = {
      float32: Float32Array.of(1.5, -2, NaN, 4),
      float64: Float64Array.of(1e300, -2, Infinity, 4),
      int32: Int32Array.of(1, -2, 2147483647, 4),
      int64: BigInt64Array.of(1n, -2n, 9223372036854775807n, 4n),
      bool: Uint8Array.of(1, 0, 0, 1),
    };
    const results = await evaluate(outputs, feeds);
    for (const dtype of dtypes) {
      const [a, b, c, d] = feeds[dtype];
      const expected = (feeds[dtype].constructor as typeof Float32Array).of(...([a, c, b, d] as number[]));
      expect(results[dtype]).toEqual(expected);
    }
  });

  test('two leaves with one name are refused', async () => {
    const twin = graph.input('w', 'float32', [3]);
    await expect(compile({ y: graph.add(w, twin) })).rejects.toThrow(
      /two different inputs of one program are called 'w'/,
    );
  });

  test('names that look like those the engine makes do no harm', async () => {
    const names = ['y@0', 'add', 'constant', 'bank#0', 'Gemm', 'out'];
    const leaves = names.map((name) => graph.input(name, 'float32', [1]));
    const bank = graph.input('bank', 'float32', [2, 1]);
    const y = [...leaves, ...graph.unstack(bank)].reduce<Tensor>(
      (total, leaf) => graph.add(total, leaf),
      graph.scalar('float32', 1),
    );
    const feeds = Object.fromEntries(names.map((name, i) => [name, Float32Array.of(2 ** i)]));
    const results = await evaluate({ y, add: leaves[1] }, { ...feeds, bank: Float32Array.of(100, 200) });
    expect(results).toEqual({ y: Float32Array.of(364), add: Float32Array.of(2) });
  });
});

describe('run-time sizes', () => {
  const rows = graph.input('rows', 'float32', ['n', 2]);

  test('the size follows from the buffer, and may change from run to run', async () => {
    const other = graph.input('other', 'float32', ['n']);
    const program = await compile({
      sums: graph.add(graph.sum(rows, 1), other),
      pieces: graph.stack([other, other]),
    });
    const run = (n: number): ReturnType<typeof program.run> =>
      program.run({ rows: new Float32Array(2 * n).fill(1), other: new Float32Array(n) });
    expect((await run(3)).sums).toEqual(Float32Array.of(2, 2, 2));
    expect((await run(1)).sums).toEqual(Float32Array.of(2));
    expect((await run(1)).pieces).toEqual(new Float32Array(2));
    expect((await run(0)).sums).toEqual(new Float32Array(0));
    await expect(program.run({ other: new Float32Array(4) })).rejects.toThrow(
      /'n' is 0 in feed 'rows' but 4 in feed 'other'/,
    );
    // A size of 1 must not stretch.
    await expect(program.run({ rows: new Float32Array(2), other: new Float32Array(4) })).rejects.toThrow(
      /'n' is 1/,
    );
    expect(() => program.bind({ rows: new Float32Array(3) })).toThrow(
      /float32\[n, 2\] but was given 3 numbers/,
    );
    await program.release();
  });

  test('a feed has at most one', async () => {
    const program = await compile({ y: graph.exp(graph.input('x', 'float32', ['batch', 'time'])) });
    expect(() => program.bind({ x: new Float32Array(6) })).toThrow(
      /\[batch, time\]: bind at most one run-time size/,
    );
    await program.release();
  });
});

describe('fetches', () => {
  test('results are written in place: the same array every run', async () => {
    const program = await compile({ product, total: graph.sum(product) });
    const own = new Float32Array(6);
    program.bindOutput('product', own);
    const first = await program.run({ x: Float32Array.of(1, 2, 3, 4, 5, 6), w: Float32Array.of(1, 1, 1) });
    expect(first.product).toBe(own);
    expect(own).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
    const second = await program.run({ w: Float32Array.of(2, 2, 2) });
    expect(second.product).toBe(own);
    expect(second.total).toBe(first.total);
    expect(own).toEqual(Float32Array.of(2, 4, 6, 8, 10, 12));
    expect(first.total[0]).toBe(42);
    await program.release();
  });

  test('a bank that is only taken apart is fed as views, and a stack is fetched as views', async () => {
    const bank = graph.input('bank', 'float32', [3, 2, 2]);
    const squares = graph.unstack(bank).map((part) => graph.multiply(part, part));
    const program = await compile({ stacked: graph.stack(squares) });
    // Nothing but the three products: no Split, no Squeeze, no Concat.
    expect(program.nodeCount).toBe(3);
    // Both lie in the middle of larger arenas, as parameters and gradients do.
    const arena = Float32Array.from({ length: 20 }, (_, i) => i);
    const gradients = new Float32Array(20).fill(-1);
    program.bind({ bank: arena.subarray(4, 16) }).bindOutput('stacked', gradients.subarray(5, 17));
    await program.run();
    const expected = [...arena.subarray(4, 16)].map((value) => value * value);
    expect([...gradients]).toEqual([-1, -1, -1, -1, -1, ...expected, -1, -1, -1]);
    arena[15] = 100;
    await program.run();
    expect(gradients[16]).toBe(10_000);
    await program.release();
  });

  test('a bank that is read as a whole too, and a stack that is read too, stay right', async () => {
    const bank = graph.input('bank', 'float32', [2, 2]);
    const [a, b] = graph.unstack(bank);
    const swapped = graph.stack([b, a]);
    const results = await evaluate(
      { swapped, total: graph.sum(graph.multiply(swapped, bank)), whole: bank, part: a, again: swapped },
      { bank: Float32Array.of(1, 2, 3, 4) },
    );
    expect(results).toEqual({
      swapped: Float32Array.of(3, 4, 1, 2),
      total: Float32Array.of(22),
      whole: Float32Array.of(1, 2, 3, 4),
      part: Float32Array.of(1, 2),
      again: Float32Array.of(3, 4, 1, 2),
    });
  });

  test('one tensor under two names, and a stack of one tensor three times', async () => {
    const y = graph.exp(w);
    const program = await compile({ y, twin: y, three: graph.stack([y, y, y]) });
    const { y: first, twin, three } = await program.run({ w: Float32Array.of(0, 0, 0) });
    expect([...first, ...twin, ...three]).toEqual(new Array(15).fill(1));
    await program.release();
  });

  test('a fetched value that others read as well is not copied', async () => {
    const y = graph.exp(w);
    const program = await compile({ y, z: graph.sin(y) });
    expect(program.nodeCount).toBe(2);
    await program.release();
  });

  test('empty tensors are fed and fetched', async () => {
    const empty = graph.input('empty', 'float32', [0, 3]);
    expect(
      await evaluate({ y: graph.exp(empty), total: graph.sum(empty, 0) }, { empty: new Float32Array(0) }),
    ).toEqual({
      y: new Float32Array(0),
      total: new Float32Array(3),
    });
  });

  test('a constant program has no feeds', async () => {
    expect(await evaluate({ y: graph.constant('int64', [2], [4, 5]) })).toEqual({
      y: BigInt64Array.of(4n, 5n),
    });
  });
});

test('an error inside a run is reported and the program lives on', async () => {
  const table = graph.input('table', 'float32', [2, 1]);
  const ids = graph.input('ids', 'int32', [1]);
  const program = await compile({ y: graph.gather(table, ids) });
  await expect(program.run({ table: Float32Array.of(1, 2), ids: Int32Array.of(7) })).rejects.toThrow(
    /out of data bounds|Gather/i,
  );
  expect((await program.run({ ids: Int32Array.of(1) })).y).toEqual(Float32Array.of(2));
  await program.release();
});

test('1,000 runs of one program keep the memory flat', async () => {
  const a = graph.input('a', 'float32', [64, 64]);
  const loss = graph.sum(graph.square(graph.softmax(graph.matmul(a, a))));
  const program = await compile({ loss, gradient: graph.gradients(loss, [a])[0] });
  program.bind({ a: Float32Array.from({ length: 4096 }, (_, i) => Math.sin(i)) });
  const run = async (times: number): Promise<number> => {
    for (let i = 0; i < times; i++) await program.run();
    return process.memoryUsage.rss();
  };
  // onnxruntime-node copies each output into a garbage buffer (16 KB a run here), which settles after some collections.
  await run(3000);
  const before = await run(1000);
  const after = await run(1000);
  // 1,000 leaked gradients would be 16 MB.
  expect(after - before).toBeLessThan(12e6);
  await program.release();
});
