import fc from 'fast-check';
import { expect, test } from 'vitest';
import { gradients, input, multiply, sum, type DType, type Tensor } from '../../src/graph/index.js';
import { compile } from '../../src/runtime/index.js';
import { count, gradientError, randomNumbers, type Operand } from './gradient-check.js';
import type { Nd } from './nd.js';

/** Seed of every property test: pinned, told in the test's name, changed by SWITCHYARD_SEED. */
export const propertySeed = Number(process.env['SWITCHYARD_SEED'] ?? 20_261_124);

/** Runs of a property: few by default, 20 times as many with SWITCHYARD_LONG=1. */
export function propertyRuns(usual: number): number {
  return process.env['SWITCHYARD_LONG'] ? usual * 20 : usual;
}

/** One application of an operator to random numbers. */
export interface Sample {
  /** Every operand must hold numbers that single precision represents, so that both dtypes see the same ones. */
  readonly operands: readonly Operand[];
  readonly build: (operands: readonly Tensor[], dtype: DType) => Tensor;
  /** The same by plain loops. */
  readonly reference?: (operands: readonly Nd[]) => Nd;
  /** False for operators whose gradient is 0 or absent by design. */
  readonly differentiable?: boolean;
}

/** Uniform numbers that single precision represents. */
export function floats(seed: number, shape: readonly number[], low = -1, high = 1): Operand {
  return { shape, data: randomNumbers(seed, count(shape), low, high).map(Math.fround) };
}

/** Numbers of either sign, at least `gap` away from 0, where an operator has a kink. */
export function nonZero(seed: number, shape: readonly number[], gap = 0.1): Operand {
  const data = randomNumbers(seed, count(shape)).map((x) =>
    Math.fround(Math.sign(x || 1) * (gap + Math.abs(x))),
  );
  return { shape, data };
}

/** Numbers of which no two are closer than 1/16 to each other or to those of another `lane`: no ties. */
export function distinct(seed: number, shape: readonly number[], lane: 0 | 1 = 0): Operand {
  const length = count(shape);
  const keys = randomNumbers(seed, length);
  const order = Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]);
  const data = new Float64Array(length);
  order.forEach((position, rank) => (data[position] = (rank - Math.floor(length / 2)) / 8 + lane / 16));
  return { shape, data };
}

/** Shapes of rank `minRank` … `maxRank` with axes of size 1 … `maxSize`; one axis in twelve has `minSize` (0, say). */
export function shapes({ minRank = 0, maxRank = 4, minSize = 1, maxSize = 3 } = {}): fc.Arbitrary<number[]> {
  const size = fc.oneof(
    { weight: 11, arbitrary: fc.integer({ min: 1, max: maxSize }) },
    { weight: 1, arbitrary: fc.constant(minSize) },
  );
  return fc.array(size, { minLength: minRank, maxLength: maxRank });
}

/** `n` shapes that broadcast: axes of size 1, and leading axes left out, at random. */
export function broadcastable(
  n: number,
  options: Parameters<typeof shapes>[0] = {},
): fc.Arbitrary<number[][]> {
  return shapes(options).chain((full) => {
    const one = fc
      .tuple(
        fc.array(fc.boolean(), { minLength: full.length, maxLength: full.length }),
        fc.nat({ max: full.length }),
      )
      .map(([kept, dropped]) => full.map((size, axis) => (kept[axis] ? size : 1)).slice(dropped));
    return fc.tuple(...Array.from({ length: n }, () => one)) as fc.Arbitrary<number[][]>;
  });
}

/** Seeds of sample data. */
export const seeds = fc.integer({ min: 0, max: 1_000_000 });

interface Outcome {
  readonly value: Float64Array;
  readonly shape: readonly number[];
  readonly gradients: readonly Float64Array[];
}

async function runIn(dtype: 'float32' | 'float64', sample: Sample): Promise<Outcome> {
  const leaves = sample.operands.map(({ shape }, i) => input(`x${i}`, dtype, shape));
  const value = sample.build(leaves, dtype);
  const weights = input('weights', dtype, value.shape);
  const derived = sample.differentiable === false ? [] : gradients(sum(multiply(value, weights)), leaves);
  const program = await compile({ value, ...Object.fromEntries(derived.map((g, i) => [`g${i}`, g])) });
  const array = dtype === 'float32' ? Float32Array : Float64Array;
  program.bindKnown(sample.operands.map(({ data }, i) => [`x${i}`, array.from(data!)] as const));
  const shape = value.shape as number[];
  program.bindKnown([['weights', array.from(randomNumbers(99, count(shape), 0.5, 1.5))]]);
  const results = (await program.run()) as Record<string, Float64Array>;
  await program.release();
  return {
    value: Float64Array.from(results['value']),
    shape,
    gradients: derived.map((_, i) => Float64Array.from(results[`g${i}`])),
  };
}

/** Largest difference, relative to the largest number (at least 1). NaN and infinite where both are. */
export function relativeDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let worst = 0;
  let scale = 1;
  for (let i = 0; i < a.length; i++) {
    if (Object.is(a[i], b[i])) continue;
    const difference = Math.abs(a[i] - b[i]);
    worst = Number.isNaN(difference) ? Infinity : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(b[i]));
  }
  return worst / scale;
}

/** Checks one sample: values against plain loops, gradients against central differences, float32 against float64. */
export async function checkSample(sample: Sample): Promise<void> {
  const double = await runIn('float64', sample);
  if (sample.reference) {
    const expected = sample.reference(sample.operands.map(({ shape, data }) => ({ shape, data: data! })));
    expect(double.shape, 'shape').toEqual(expected.shape);
    expect(relativeDifference(double.value, expected.data), 'float64 against loops').toBeLessThan(1e-12);
  }
  const single = await runIn('float32', sample);
  expect(relativeDifference(single.value, double.value), 'float32 against float64').toBeLessThan(1e-5);
  single.gradients.forEach((gradient, i) => {
    const difference = relativeDifference(gradient, double.gradients[i]);
    expect(difference, `float32 gradient ${i} against float64`).toBeLessThan(1e-5);
  });
  if (sample.differentiable === false) return;
  const operands = sample.operands.map(({ shape, data }) => ({ shape, data: Float64Array.from(data!) }));
  const error = await gradientError((leaves) => sample.build(leaves, 'float64'), operands, 1);
  expect(error, 'gradient against central differences').toBeLessThan(1e-6);
}

/** A property test of one operator over random samples. */
export function operatorTest(name: string, samples: fc.Arbitrary<Sample>, runs = 8): void {
  test(`${name} (seed ${propertySeed})`, async () => {
    await fc.assert(fc.asyncProperty(samples, checkSample), {
      seed: propertySeed,
      numRuns: propertyRuns(runs),
    });
  });
}
