/**
 * Sets integer sizes so that a variant costs as much as the baseline. Works on shapes alone: nothing is allocated.
 * @module
 */
import type { ModelSize } from '../models/index.js';
import { GridError, type FreeSize, type MatchMeasure } from './grid.js';

/** How near a variant came to the baseline. */
export interface MatchReport {
  readonly measure: MatchMeasure;
  readonly target: number;
  readonly reached: number;
  /** (reached − target) / target */
  readonly difference: number;
  /** Sizes that were set, by path; empty when the variant's own were kept. */
  readonly sizes: Readonly<Record<string, number>>;
}

/** The number of a model that is held equal. */
export function measureOf(size: ModelSize, measure: MatchMeasure): number {
  return measure === 'flops' ? size.forwardFlopsPerToken : size[measure];
}

/**
 * The whole number from `min` on at which a growing function comes closest to a target; of two equally close ones the
 * smaller. Calls the function O(log answer) times.
 *
 * @throws RangeError if the function does not grow.
 * @example
 * closestSize((width) => 2 * 412 * width + width + 412, 1_694_144); // 2053
 */
export function closestSize(measure: (count: number) => number, target: number, min = 1): number {
  let low = min;
  let high = min;
  let reached = measure(min);
  while (reached < target) {
    low = high;
    high *= 2;
    const next = measure(high);
    if (next <= reached) throw new RangeError('the measure does not grow with the size');
    reached = next;
  }
  // measure(low) < target ≤ measure(high), or both are min.
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (measure(middle) < target) low = middle;
    else high = middle;
  }
  return Math.abs(measure(low) - target) <= Math.abs(measure(high) - target) ? low : high;
}

/**
 * Finds the sizes of one variant.
 *
 * @param sizeWith size of the variant with given values at the free paths.
 * @param tolerance largest accepted |difference|.
 * @throws GridError in one line if no size comes near enough, or the sizes do not change what is matched.
 */
export function matchVariant(
  variant: string,
  free: readonly FreeSize[],
  sizeWith: (sizes: Readonly<Record<string, number>>) => ModelSize,
  { measure, target, tolerance }: { measure: MatchMeasure; target: number; tolerance: number },
): MatchReport {
  const sizes = (count: number): Record<string, number> =>
    Object.fromEntries(free.map(({ path, multipleOf }) => [path, count * multipleOf]));
  const at = (count: number): number => measureOf(sizeWith(sizes(count)), measure);
  const paths = free.map(({ path }) => path).join(' and ');
  let chosen: Record<string, number> = {};
  try {
    if (free.length > 0) chosen = sizes(closestSize(at, target, Math.max(...free.map(({ min }) => min))));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new GridError(
      `variant ${variant}: ${paths} does not change ${describe(measure)}; free another size`,
    );
  }
  const reached = measureOf(sizeWith(chosen), measure);
  const difference = (reached - target) / target;
  if (Math.abs(difference) > tolerance) {
    const where =
      free.length === 0
        ? `its sizes give`
        : `${Object.entries(chosen)
            .map(([path, value]) => `${path} ${value}`)
            .join(' and ')} comes closest with`;
    const remedy = free.length === 0 ? 'free a size, or say "match": false' : 'free another size';
    throw new GridError(
      `variant ${variant}: ${where} ${reached} ${describe(measure)}, ${percent(difference)} from the baseline's ${target} (tolerance ${percent(tolerance)}); ${remedy}`,
    );
  }
  return { measure, target, reached, difference, sizes: chosen };
}

/** A measure in words. */
export function describe(measure: MatchMeasure): string {
  return {
    parameters: 'parameters',
    activeParameters: 'active parameters',
    flops: 'forward FLOPs per token',
  }[measure];
}

/** `+0.31 %`; more digits where the difference is small. */
export function percent(fraction: number): string {
  const value = 100 * fraction;
  const text = value === 0 ? '0' : Math.abs(value) < 0.01 ? value.toExponential(1) : value.toFixed(2);
  return `${text} %`;
}
