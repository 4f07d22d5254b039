/**
 * Where the eigenvalues of a symmetric matrix lie, roughly, for the price of a few products with narrow blocks.
 * @module
 */
import { input, matmul } from '../../graph/index.js';
import { symmetricEigen } from '../../metrics/index.js';
import { fillNormal } from '../../nn/index.js';
import type { Products } from './products.js';

/** Random vectors, and Lanczos steps from each. */
const PROBES = 8;
const STEPS = 20;
const HALVINGS = 30;

/** An estimate, without any promise. */
export interface SpectrumEstimate {
  readonly largest: number;
  /** About the `rank`-th largest eigenvalue. */
  readonly quantile: (rank: number) => number;
}

/**
 * Lanczos' three-term recursion from random vectors; eigenvalues of the tridiagonal matrices, weighted as Gauss quadrature
 * does, are a picture of the density of the spectrum (Lin, Saad & Yang 2016, §3.2).
 *
 * @param matrix `[size, size]`, symmetric without negative eigenvalues
 */
export async function estimateSpectrum(
  products: Products,
  matrix: Float32Array,
  size: number,
  seed: number,
): Promise<SpectrumEstimate> {
  const steps = Math.min(STEPS, size);
  const make = () => matmul(input('a', 'float32', [size, size]), input('x', 'float32', [size, PROBES]));
  const diagonals = new Float64Array(steps * PROBES);
  const besides = new Float64Array(steps * PROBES);
  let now: Float32Array = new Float32Array(size * PROBES);
  fillNormal(seed, now);
  normalize(now, new Float64Array(PROBES));
  let before: Float32Array = new Float32Array(size * PROBES);
  for (let step = 0; step < steps; step++) {
    const image = await products.run(`spectrum ${size}`, make, { a: matrix, x: now });
    const diagonal = diagonals.subarray(step * PROBES, (step + 1) * PROBES);
    for (let i = 0; i < image.length; i++) diagonal[i % PROBES] += image[i] * now[i];
    const last = step > 0 ? besides.subarray((step - 1) * PROBES, step * PROBES) : new Float64Array(PROBES);
    for (let i = 0; i < image.length; i++)
      image[i] -= diagonal[i % PROBES] * now[i] + last[i % PROBES] * before[i];
    normalize(image, besides.subarray(step * PROBES, (step + 1) * PROBES));
    [before, now] = [now, image];
  }
  const runs = Array.from({ length: PROBES }, (_, probe) => {
    const tridiagonal = new Float64Array(steps * steps);
    for (let i = 0; i < steps; i++) {
      tridiagonal[i * steps + i] = diagonals[i * PROBES + probe];
      if (i > 0) tridiagonal[i * steps + i - 1] = besides[(i - 1) * PROBES + probe];
    }
    const { values, vectors } = symmetricEigen(tridiagonal, steps);
    return { values, weights: values.map((_, i) => size * vectors[i * steps] ** 2) };
  });
  const largest = Math.max(...runs.map(({ values }) => values[0]));
  const quantile = (rank: number): number => {
    let [low, high] = [0, largest];
    for (let halving = 0; halving < HALVINGS; halving++) {
      const middle = (low + high) / 2;
      const above = runs.reduce((sum, run) => sum + countAbove(run, middle), 0) / PROBES;
      if (above < rank) high = middle;
      else low = middle;
    }
    return low;
  };
  return { largest, quantile };
}

/** How many eigenvalues lie above `value` by one run: half of what a node stands for on either side of it, straight between. */
function countAbove(
  { values, weights }: { values: Float64Array; weights: Float64Array },
  value: number,
): number {
  let [count, next] = [0, values[0]];
  for (let i = 0; i < values.length && values[i] > value; i++) {
    next = values[i + 1] ?? 0;
    const here = weights[i] / 2;
    const between = here + (weights[i + 1] ?? 0) / 2;
    if (i === 0) count += here;
    count += next >= value ? between : (between * (values[i] - value)) / (values[i] - next);
  }
  return count;
}

/** Scales columns to length 1, leaving zeros alone, and writes down the lengths. */
function normalize(block: Float32Array, lengths: Float64Array): void {
  lengths.fill(0);
  for (let i = 0; i < block.length; i++) lengths[i % PROBES] += block[i] * block[i];
  for (let i = 0; i < PROBES; i++) lengths[i] = Math.sqrt(lengths[i]);
  for (let i = 0; i < block.length; i++) if (lengths[i % PROBES] > 0) block[i] /= lengths[i % PROBES];
}
