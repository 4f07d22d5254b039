/**
 * Requested capacity of stratified layers: which tokens pass through how many strata (stratified mixture of experts
 * §6 and §12).
 * @module
 */
import { requestedCapacity } from '../metrics/index.js';
import { expectedRequestedCapacity } from '../moe/index.js';
import type { LayerTrace, RoutingTrace } from './routing-trace.js';

/** A class, place or token with its mean. */
export interface MeanCapacity {
  readonly name: string;
  readonly mean: number;
  readonly count: number;
}

/** Requested capacity of one stratified layer. */
export interface CapacityDemand {
  readonly layerIndex: number;
  readonly strata: readonly string[];
  /** Mean over all tokens. */
  readonly mean: number;
  /** What gates that are uniform over the experts they see would ask for. */
  readonly uniform: number;
  /** Tokens that passed 0, 1, … strata. */
  readonly counts: readonly number[];
  readonly byClass: readonly MeanCapacity[];
  /** Means over eighths of the context. */
  readonly byPosition: readonly MeanCapacity[];
  /** Tokens that ask for most. */
  readonly highest: readonly MeanCapacity[];
  /** Tokens that ask for least. */
  readonly lowest: readonly MeanCapacity[];
}

/** Length of the lists of tokens, as in the paper. */
const LISTED = 25;

/** A token seen less often says little. */
const SEEN = 5;

/**
 * Demand of every layer that routes in several strata; empty for models without one.
 * @param texts what each token says
 * @param classOf class of each token (its language, or its script)
 */
export function capacityDemand(
  trace: RoutingTrace,
  texts: readonly string[],
  classOf: readonly string[],
): CapacityDemand[] {
  const groups = new Map<number, LayerTrace[]>();
  for (const layer of trace.layers)
    groups.set(layer.layerIndex, [...(groups.get(layer.layerIndex) ?? []), layer]);
  const parts = 8;
  const context = trace.positions.reduce((most, position) => Math.max(most, position + 1), 1);
  const places = Array.from(trace.positions, (position) => {
    const part = Math.floor((position * parts) / context);
    const first = Math.ceil((part * context) / parts);
    const last = Math.ceil(((part + 1) * context) / parts) - 1;
    return first === last ? String(first) : `${first}–${last}`;
  });
  return [...groups].flatMap(([layerIndex, strata]) => {
    if (strata.length < 2) return [];
    const requested = requestedCapacity(strata);
    const counts = new Array<number>(strata.length + 1).fill(0);
    for (const count of requested) counts[count]++;
    const tokens = meansBy(texts, requested)
      .filter(({ count }) => count >= SEEN)
      .sort((a, b) => b.mean - a.mean);
    return {
      layerIndex,
      strata: strata.map(({ name }) => name),
      mean: requested.reduce((a, b) => a + b, 0) / requested.length,
      uniform: expectedRequestedCapacity(sizesOf(strata)),
      counts,
      byClass: meansBy(classOf, requested),
      byPosition: meansBy(places, requested),
      highest: tokens.slice(0, LISTED),
      lowest: tokens.slice(-LISTED).reverse(),
    };
  });
}

/** Experts of each stratum: those that the next gate no longer sees. */
function sizesOf(strata: readonly LayerTrace[]): number[] {
  return strata.map(
    ({ numExperts, firstExpert }, i) => (strata[i + 1]?.firstExpert ?? numExperts) - firstExpert,
  );
}

/** Means by name, in the order in which names first occur. */
function meansBy(names: readonly string[], values: readonly number[]): MeanCapacity[] {
  const sums = new Map<string, { total: number; count: number }>();
  names.forEach((name, i) => {
    const { total, count } = sums.get(name) ?? { total: 0, count: 0 };
    sums.set(name, { total: total + values[i], count: count + 1 });
  });
  return [...sums].map(([name, { total, count }]) => ({ name, mean: total / count, count }));
}
