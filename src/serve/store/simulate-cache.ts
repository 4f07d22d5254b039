/**
 * What a policy would do with recorded routing decisions, without any weights.
 * @module
 */
import {
  chooseVictim,
  ExpertNumbers,
  type CachePolicy,
  type ExpertId,
  type RoutedStep,
} from './cache-policy.js';

/** What is simulated. */
export interface CacheSimulationOptions {
  /** Experts of each sparse layer. */
  readonly numExperts: readonly number[];
  /** Decisions in the order in which they were made. */
  readonly trace: readonly RoutedStep[];
  /** Experts that fit into memory. */
  readonly capacity: number;
  readonly policy: CachePolicy;
  /** Accesses that do not count, while memory fills; as many as {@link capacity} when absent. */
  readonly warmUp?: number;
  /** Whether what the policy places in memory is there at the start; false when absent. */
  readonly placed?: boolean;
}

/** What happened. An access is one (step, expert), however many tokens chose the expert. */
export interface CacheSimulation {
  readonly accesses: number;
  /** Accesses whose expert was in memory when its step began. */
  readonly hits: number;
  readonly loads: number;
  readonly evictions: number;
  /** Hits over accesses after the warm-up, 0 … 1; NaN if there were none. */
  readonly hitRate: number;
  /** Mean over steps of the share of a layer's experts that the step needs, 0 … 1. */
  readonly activeShare: number;
}

/**
 * Plays a trace: what a step finds in memory is a hit; what is missing is loaded one after another, in the order of the
 * step, and nothing that the step still needs gives way for it unless there is nothing else.
 *
 * @throws RangeError if the trace is not of this model, or nothing fits into memory.
 */
export function simulateCache({
  numExperts,
  trace,
  capacity,
  policy,
  warmUp = capacity,
  placed = false,
}: CacheSimulationOptions): CacheSimulation {
  if (!(capacity >= 1)) throw new RangeError(`a cache holds at least one expert, not ${capacity}`);
  const numbers = new ExpertNumbers(numExperts);
  const resident = new Set<ExpertId>();
  let [accesses, hits, loads, evictions, steadyAccesses, steadyHits, share] = [0, 0, 0, 0, 0, 0, 0];
  const load = (id: ExpertId, pending: ReadonlySet<ExpertId>): void => {
    if (resident.size >= capacity) {
      const free = [...resident].filter((each) => !pending.has(each));
      const victim = chooseVictim(policy, free.length > 0 ? free : resident)!;
      resident.delete(victim);
      policy.evicted(victim);
      evictions++;
    }
    resident.add(id);
    policy.loaded(id);
    loads++;
  };
  if (placed) for (const id of (policy.placement ?? []).slice(0, capacity)) load(id, resident);
  for (const { layer, experts } of trace) {
    const ids = [...new Set(experts)].map((expert) => numbers.idOf(layer, expert));
    share += ids.length / numExperts[layer];
    for (const id of ids) {
      const isHit = resident.has(id);
      if (isHit) hits++;
      if (accesses++ < warmUp) continue;
      steadyAccesses++;
      if (isHit) steadyHits++;
    }
    policy.needed(layer, ids);
    const missing = ids.filter((id) => !resident.has(id));
    const room = capacity - (ids.length - missing.length);
    // What is found is used first. Of the rest, as much as fits stays until the step is over.
    const kept = new Set(ids.filter((id) => resident.has(id)));
    for (const [at, id] of missing.entries()) {
      load(id, at < room ? kept : new Set());
      kept.add(id);
    }
  }
  return {
    accesses,
    hits,
    loads,
    evictions,
    hitRate: steadyHits / steadyAccesses,
    activeShare: share / trace.length,
  };
}
