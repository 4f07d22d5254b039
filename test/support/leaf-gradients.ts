import { gradients, type Tensor } from '../../src/graph/index.js';
import { RandomStream, streamKey } from '../../src/nn/index.js';
import { compile, type TensorData } from '../../src/runtime/index.js';

/**
 * Largest difference between `gradients(loss)` and central differences over named float64 leaves, relative to the
 * largest gradient (at least 1): {@link gradientError} for a graph whose leaves already exist, such as the parameters
 * of a module tree.
 *
 * @param feeds numbers of every feed by name; those of the checked leaves are Float64Arrays.
 * @param options.samples elements checked per leaf, drawn by `seed`; all of them when absent.
 */
export async function leafGradientError(
  loss: Tensor,
  leaves: ReadonlyMap<string, Tensor>,
  feeds: ReadonlyMap<string, TensorData>,
  options: { samples?: number; seed?: number; step?: number } = {},
): Promise<number> {
  const { samples = Infinity, seed = 0, step = 1e-5 } = options;
  const names = [...leaves.keys()];
  const derived = gradients(loss, [...leaves.values()]);
  const program = await compile({ loss, ...Object.fromEntries(derived.map((g, i) => [`gradient${i}`, g])) });
  program.bindKnown(feeds);
  const first = (await program.run()) as Readonly<Record<string, Float64Array>>;
  const analytic = derived.map((_, i) => Float64Array.from(first[`gradient${i}`]));
  const lossNow = async (): Promise<number> => (await program.run()).loss[0] as number;

  let worst = 0;
  let scale = 1;
  for (const part of analytic) for (const value of part) scale = Math.max(scale, Math.abs(value));
  for (const [i, name] of names.entries()) {
    // A leaf that the loss does not reach is no feed; its gradient must be zero, which the loop below checks.
    const numbers = feeds.get(name) as Float64Array;
    const random = new RandomStream(streamKey(seed, name));
    const count = Math.min(samples, numbers.length);
    for (let n = 0; n < count; n++) {
      const at = samples < numbers.length ? random.integer(numbers.length) : n;
      const original = numbers[at];
      numbers[at] = original + step;
      const above = await lossNow();
      numbers[at] = original - step;
      const below = await lossNow();
      numbers[at] = original;
      const difference = Math.abs((above - below) / (2 * step) - analytic[i][at]);
      worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
    }
  }
  await program.release();
  return worst / scale;
}
