import { expect, test } from 'vitest';
import { input, matmul, multiply } from '../../graph/index.js';
import { lower, compile } from '../../runtime/index.js';
import { weightsFirst } from './weights-first.js';

const [inSize, outSize] = [5, 3];
const weight = input('weight', 'float32', [outSize, inSize]);
const other = input('other', 'float32', [outSize, inSize]);
const isWeight = (name: string): boolean => name === 'weight';
const numbers = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => Math.sin(i + 1));

/** First operands of all products. */
const leftFactors = (outputs: Parameters<typeof lower>[0]): readonly string[] =>
  lower(outputs).graph.nodes.flatMap(({ type, inputs }) =>
    ['Gemm', 'MatMul', 'FusedMatMul'].includes(type) ? [inputs[0]] : [],
  );

test.each([1, 2, 7])(
  '%i rows times a weight: the weight comes first, with the same numbers',
  async (rows) => {
    const x = input('x', 'float32', [rows, inSize]);
    const y = multiply(matmul(x, weight, { transposeB: true }), 2);
    const turned = weightsFirst({ y }, isWeight);
    expect(leftFactors({ y })).toEqual(['x']);
    expect(leftFactors(turned)).toEqual(['weight']);
    const feeds = { x: numbers(rows * inSize), weight: numbers(outSize * inSize) };
    const [plain, changed] = [await compile({ y }), await compile(turned)];
    const expected = [...((await plain.run(feeds)).y as Float32Array)];
    const found = [...((await changed.run(feeds)).y as Float32Array)];
    found.forEach((value, at) => expect(value).toBeCloseTo(expected[at], 5));
    await plain.release();
    await changed.release();
  },
);

test('many rows, other orders and products of what is no weight stay as they are', () => {
  const few = input('x', 'float32', [2, inSize]);
  const many = input('x', 'float32', [65, inSize]);
  for (const y of [
    matmul(many, weight, { transposeB: true }),
    matmul(few, other, { transposeB: true }),
    matmul(few, input('weight', 'float32', [inSize, outSize])),
    matmul(few, weight, { transposeB: true, scale: 2 }),
  ])
    expect(weightsFirst({ y }, isWeight).y).toBe(y);
});
