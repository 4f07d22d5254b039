/**
 * Which expert gives way when another needs its place.
 * @module
 */

/** An expert of a layer as one number: experts are counted through all sparse layers, in their order. */
export type ExpertId = number;

/** What a layer's router decided in one pass: the distinct experts that the pass needs there. */
export interface RoutedStep {
  /** Index among the sparse layers. */
  readonly layer: number;
  readonly experts: readonly number[];
}

/** What a policy may know before the first expert is loaded. */
export interface PolicySurroundings {
  /** Experts of each sparse layer, in the order of the model. */
  readonly numExperts: readonly number[];
  /** Recorded decisions: of the very run for an oracle, of earlier ones for popularity. */
  readonly trace?: readonly RoutedStep[] | undefined;
}

/**
 * An order of experts in memory, kept up to date by what happens to them. A policy sees no memory and reads no weights,
 * so a simulation and a store ask the same one. Equal calls give equal answers: nothing is left to chance or to time.
 */
export interface CachePolicy {
  /** A layer's router decided: once for every layer of every pass, before what is missing is loaded. */
  needed(layer: number, experts: readonly ExpertId[]): void;
  /** An expert got a place in memory. */
  loaded(expert: ExpertId): void;
  /** An expert lost its place. */
  evicted(expert: ExpertId): void;
  /**
   * A prediction says that an expert will be needed, or says so no longer.
   * @param due what is needed sooner has the smaller number; undefined when it is no longer expected.
   */
  expected(expert: ExpertId, due: number | undefined): void;
  /** Negative if `a` should give way before `b`; 0 if the policy does not care. Both are in memory. */
  compare(a: ExpertId, b: ExpertId): number;
  /** Experts worth loading before anything is asked for, best first; none when absent. */
  readonly placement?: readonly ExpertId[];
}

/** The candidate that gives way first; of those that the policy holds equal, the one with the smallest number. */
export function chooseVictim(policy: CachePolicy, candidates: Iterable<ExpertId>): ExpertId | undefined {
  let victim: ExpertId | undefined;
  for (const candidate of candidates) {
    if (victim === undefined || (policy.compare(candidate, victim) || candidate - victim) < 0)
      victim = candidate;
  }
  return victim;
}

/** Turns experts of layers into {@link ExpertId}s and back. */
export class ExpertNumbers {
  /** Experts of all layers together. */
  readonly total: number;
  private readonly firsts: readonly number[];

  constructor(private readonly numExperts: readonly number[]) {
    let total = 0;
    this.firsts = numExperts.map((count) => (total += count) - count);
    this.total = total;
  }

  /** @throws RangeError if there is no such layer or expert. */
  idOf(layer: number, expert: number): ExpertId {
    const count = this.numExperts[layer] as number | undefined;
    if (count === undefined)
      throw new RangeError(`there is no sparse layer ${layer}; the model has ${this.numExperts.length}`);
    if (!Number.isInteger(expert) || expert < 0 || expert >= count)
      throw new RangeError(`sparse layer ${layer} has no expert ${expert}; it has ${count}`);
    return this.firsts[layer] + expert;
  }

  /** The layer of an expert. */
  layerOf(id: ExpertId): number {
    return this.firsts.findLastIndex((first) => first <= id);
  }

  /** The number of an expert within its layer. */
  expertOf(id: ExpertId): number {
    return id - this.firsts[this.layerOf(id)];
  }
}
