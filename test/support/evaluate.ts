import type { Tensor } from '../../src/graph/index.js';
import { compile, type Buffers, type RuntimeOptions, type TensorData } from '../../src/runtime/index.js';

/** Compiles, runs once and releases; the results are the caller's to keep. */
export async function evaluate<Names extends string>(
  outputs: Readonly<Record<Names, Tensor>>,
  feeds: Buffers = {},
  options: RuntimeOptions = {},
): Promise<Record<Names, TensorData>> {
  const program = await compile(outputs, options);
  const results = await program.run(feeds);
  await program.release();
  return results;
}

/** {@link evaluate} for one output, as plain numbers. */
export async function numbersOf(tensor: Tensor, feeds: Buffers = {}): Promise<number[]> {
  const { value } = await evaluate({ value: tensor }, feeds);
  return Array.from(value as ArrayLike<number | bigint>, Number);
}
