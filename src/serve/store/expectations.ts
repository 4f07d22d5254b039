/**
 * What predictions say of layers that have not decided yet.
 * @module
 */
import type { CachePolicy, ExpertId } from './cache-policy.js';

/** Experts that are expected, how soon, and which of them are still to be read. */
export class Expectations {
  /** By layer: how soon each is due, the smallest first. */
  private readonly due = new Map<number, Map<ExpertId, number>>();
  private readonly waiting = new Map<ExpertId, { readonly layer: number; readonly due: number }>();

  constructor(private readonly policy: CachePolicy) {}

  /** @param isAway whether it must be read. */
  add(layer: number, id: ExpertId, due: number, isAway: boolean): void {
    const ofLayer = this.due.get(layer) ?? new Map<ExpertId, number>();
    this.due.set(layer, ofLayer.set(id, due));
    this.policy.expected(id, due);
    if (isAway) this.waiting.set(id, { layer, due });
  }

  /** A layer has decided: predictions of it are things of the past. */
  forget(layer: number): void {
    for (const id of this.due.get(layer)?.keys() ?? []) {
      this.policy.expected(id, undefined);
      this.waiting.delete(id);
    }
    this.due.delete(layer);
  }

  /** How soon an expert is expected; never when nobody said so. */
  dueOf(layer: number, id: ExpertId): number {
    return this.due.get(layer)?.get(id) ?? Infinity;
  }

  /** What should be read next, in the order of calls among equals. */
  next(): { readonly id: ExpertId; readonly layer: number; readonly due: number } | undefined {
    let first: { id: ExpertId; layer: number; due: number } | undefined;
    for (const [id, { layer, due }] of this.waiting)
      if (!first || due < first.due) first = { id, layer, due };
    return first;
  }

  /** It is being read, or in memory. */
  taken(id: ExpertId): void {
    this.waiting.delete(id);
  }
}
