import { gradients, input, multiply, sum, type Tensor } from '../../src/graph/index.js';
import { fillUniform, streamKey } from '../../src/nn/random.js';
import { compile } from '../../src/runtime/index.js';

/** One operand of a checked function: its shape and, when the default range does not suit, its numbers. */
export interface Operand {
  readonly shape: readonly number[];
  readonly data?: Float64Array;
}

/** Numbers in [low, high), reproducible by seed. */
export function randomNumbers(seed: number, length: number, low = -1, high = 1): Float64Array {
  const data = new Float64Array(length);
  fillUniform(streamKey(seed, length), data, low, high);
  return data;
}

/** Element count of a static shape. */
export function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/**
 * Largest difference between `gradients()` and central differences in float64, relative to the largest gradient
 * (at least 1). The function's output is reduced to a scalar by fixed random weights, so that every output element
 * counts differently.
 */
export async function gradientError(
  build: (inputs: readonly Tensor[]) => Tensor,
  operandList: readonly Operand[],
  seed: number,
  step = 1e-5,
): Promise<number> {
  const leaves = operandList.map(({ shape }, i) => input(`x${i}`, 'float64', shape));
  const output = build(leaves);
  const weights = input('weights', 'float64', output.shape);
  const loss = sum(multiply(output, weights));
  const derived = gradients(loss, leaves);
  const program = await compile({ loss, ...Object.fromEntries(derived.map((g, i) => [`g${i}`, g])) });
  const data = operandList.map(({ shape, data: given }, i) => given ?? randomNumbers(seed + i, count(shape)));
  program.bindKnown(data.map((numbers, i) => [`x${i}`, numbers] as const));
  program.bind({ weights: randomNumbers(seed + 99, count(output.shape as number[]), 0.5, 1.5) });
  const first = await program.run();
  const analytic = derived.map((_, i) => Float64Array.from((first as Record<string, Float64Array>)[`g${i}`]));
  const lossOf = async (): Promise<number> => (await program.run()).loss[0] as number;

  let worst = 0;
  let scale = 1;
  for (const part of analytic) for (const value of part) scale = Math.max(scale, Math.abs(value));
  for (const [i, numbers] of data.entries()) {
    for (let j = 0; j < numbers.length; j++) {
      const original = numbers[j];
      numbers[j] = original + step;
      const above = await lossOf();
      numbers[j] = original - step;
      const below = await lossOf();
      numbers[j] = original;
      worst = Math.max(worst, Math.abs((above - below) / (2 * step) - analytic[i][j]));
    }
  }
  await program.release();
  return worst / scale;
}
