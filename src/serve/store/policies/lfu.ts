/**
 * Least frequently used.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import type { CachePolicy, ExpertId, PolicySurroundings } from '../cache-policy.js';
import { LruPolicy } from './lru.js';

/** What was needed in the fewest passes since the start gives way, in or out of memory; the least recent of equals. */
export class LfuPolicy implements CachePolicy {
  private readonly uses = new Map<ExpertId, number>();
  private readonly recency = new LruPolicy();

  needed(layer: number, experts: readonly ExpertId[]): void {
    this.recency.needed(layer, experts);
    for (const expert of experts) this.uses.set(expert, (this.uses.get(expert) ?? 0) + 1);
  }

  loaded(expert: ExpertId): void {
    this.recency.loaded(expert);
  }

  evicted(expert: ExpertId): void {
    this.recency.evicted(expert);
  }

  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    return (this.uses.get(a) ?? 0) - (this.uses.get(b) ?? 0) || this.recency.compare(a, b);
  }
}

const schema = z.strictObject({ kind: z.literal('lfu') });

/** `lfu` among the policies. */
export const lfu: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: () => new LfuPolicy(),
};
