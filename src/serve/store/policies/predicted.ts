/**
 * The predicted set stays.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import type { CachePolicy, ExpertId, PolicySurroundings } from '../cache-policy.js';
import { FifoPolicy } from './fifo.js';

/**
 * What no prediction asks for gives way first; then what is expected latest. Equals leave as they came (SiDA §3.4: only
 * the predicted experts are kept, first in, first out where there is no room for them).
 */
export class PredictedPolicy implements CachePolicy {
  private readonly due = new Map<ExpertId, number>();
  private readonly order = new FifoPolicy();

  needed(): void {}

  loaded(expert: ExpertId): void {
    this.order.loaded(expert);
  }

  evicted(expert: ExpertId): void {
    this.order.evicted(expert);
  }

  expected(expert: ExpertId, due: number | undefined): void {
    if (due === undefined) this.due.delete(expert);
    else this.due.set(expert, due);
  }

  compare(a: ExpertId, b: ExpertId): number {
    const [dueA, dueB] = [this.due.get(a) ?? Infinity, this.due.get(b) ?? Infinity];
    return dueA === dueB ? this.order.compare(a, b) : dueA > dueB ? -1 : 1;
  }
}

const schema = z.strictObject({ kind: z.literal('predicted') });

/** `predicted` among the policies. */
export const predicted: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: () => new PredictedPolicy(),
};
