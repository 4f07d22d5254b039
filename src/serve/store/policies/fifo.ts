/**
 * First in, first out.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import type { CachePolicy, ExpertId, PolicySurroundings } from '../cache-policy.js';

/** What was loaded longest ago gives way, however often it is used (SiDA §3.4). */
export class FifoPolicy implements CachePolicy {
  private readonly loadedAt = new Map<ExpertId, number>();
  private clock = 0;

  needed(): void {}

  loaded(expert: ExpertId): void {
    this.loadedAt.set(expert, this.clock++);
  }

  evicted(expert: ExpertId): void {
    this.loadedAt.delete(expert);
  }

  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    return this.loadedAt.get(a)! - this.loadedAt.get(b)!;
  }
}

const schema = z.strictObject({ kind: z.literal('fifo') });

/** `fifo` among the policies. */
export const fifo: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: () => new FifoPolicy(),
};
