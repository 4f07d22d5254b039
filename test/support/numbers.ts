import type { DType, Tensor } from '../../src/graph/index.js';
import type { Parameter } from '../../src/nn/index.js';
import { compile, type TensorData } from '../../src/runtime/index.js';
import { randomNumbers } from './gradient-check.js';

/** Feeds by name: plain numbers take the program's float dtype, integer arrays stay what they are. */
export type Feeds = Iterable<readonly [string, TensorData | readonly number[]]>;

/**
 * Runs a graph once and returns plain numbers. The same feeds serve float32 and float64; those that the graph does not
 * use are passed over.
 */
export async function run<Names extends string>(
  outputs: Readonly<Record<Names, Tensor>>,
  feeds: Feeds,
  dtype: DType = 'float64',
): Promise<Record<Names, number[]>> {
  const program = await compile(outputs);
  program.bindKnown([...feeds].map(([name, numbers]) => [name, typed(numbers, dtype)] as const));
  const results = await program.run();
  const plain = Object.entries<TensorData>(results).map(([name, data]) => [
    name,
    Array.from(data as ArrayLike<number | bigint>, Number),
  ]);
  await program.release();
  return Object.fromEntries(plain) as Record<Names, number[]>;
}

/** Numbers in the array type of a feed. */
export function typed(numbers: TensorData | readonly number[], dtype: DType): TensorData {
  if (!Array.isArray(numbers) && !(numbers instanceof Float32Array || numbers instanceof Float64Array)) {
    return numbers as TensorData;
  }
  const plain = numbers as ArrayLike<number>;
  return dtype === 'float32' ? Float32Array.from(plain) : Float64Array.from(plain);
}

/** Random numbers for every parameter, by name, in [−spread, spread). */
export function randomParameters(
  parameters: ReadonlyMap<string, Parameter>,
  seed: number,
  spread = 0.5,
): Map<string, Float64Array> {
  const draw = ({ size }: Parameter, i: number): Float64Array =>
    randomNumbers(seed + 31 * i, size, -spread, spread);
  return new Map([...parameters].map(([name, parameter], i) => [name, draw(parameter, i)]));
}

/** Largest |a − b|, relative to the largest |b| (at least 1). */
export function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) {
    throw new Error(`${actual.length} numbers cannot equal ${expected.length}`);
  }
  let worst = 0;
  let scale = 1;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i] - expected[i]);
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return worst / scale;
}
