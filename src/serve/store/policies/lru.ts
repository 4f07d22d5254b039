/**
 * Least recently used.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import type { CachePolicy, ExpertId, PolicySurroundings } from '../cache-policy.js';

/** What was used longest ago gives way; loading counts as a use. */
export class LruPolicy implements CachePolicy {
  private readonly usedAt = new Map<ExpertId, number>();
  private clock = 0;

  needed(_layer: number, experts: readonly ExpertId[]): void {
    for (const expert of experts) this.usedAt.set(expert, this.clock++);
  }

  loaded(expert: ExpertId): void {
    this.usedAt.set(expert, this.clock++);
  }

  evicted(expert: ExpertId): void {
    this.usedAt.delete(expert);
  }

  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    return this.usedAt.get(a)! - this.usedAt.get(b)!;
  }
}

const schema = z.strictObject({ kind: z.literal('lru') });

/** `lru` among the policies. */
export const lru: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: () => new LruPolicy(),
};
