/**
 * Numbers over seeds.
 * @module
 */

/** Mean and sample standard deviation. */
export interface Spread {
  readonly mean: number;
  /** Over n − 1; null for a single value, which says nothing about spread. */
  readonly sd: number | null;
  readonly count: number;
}

/** @throws RangeError for no value at all. */
export function spread(values: readonly number[]): Spread {
  if (values.length === 0) throw new RangeError('no value has no mean');
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return {
    mean,
    sd: values.length === 1 ? null : Math.sqrt(squares / (values.length - 1)),
    count: values.length,
  };
}

/**
 * Differences of two variants on the seeds that both have, which share data order: their spread is smaller than that
 * of either. Undefined without a common seed.
 */
export function pairedDifference(
  values: ReadonlyMap<number, number>,
  baseline: ReadonlyMap<number, number>,
): Spread | undefined {
  const differences = [...values].flatMap(([seed, value]) =>
    baseline.has(seed) ? [value - baseline.get(seed)!] : [],
  );
  return differences.length === 0 ? undefined : spread(differences);
}

/** `1.5784 ± 0.0202`, with `+` before positive means when it is a difference. */
export function formatSpread({ mean, sd }: Spread, digits: number, signed = false): string {
  const sign = signed && mean > 0 ? '+' : '';
  return `${sign}${mean.toFixed(digits)}${sd === null ? '' : ` ± ${sd.toFixed(digits)}`}`;
}
