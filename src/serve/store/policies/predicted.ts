/**
 * The predicted set stays.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import type { CachePolicy, ExpertId, PolicySurroundings } from '../cache-policy.js';
import { FifoPolicy } from './fifo.js';
import { LfuPolicy } from './lfu.js';

/**
 * What no prediction asks for gives way first; then what is expected latest. Equals leave in the order of another policy.
 */
export class PredictedPolicy implements CachePolicy {
  private readonly due = new Map<ExpertId, number>();

  constructor(private readonly order: CachePolicy = new FifoPolicy()) {}

  needed(layer: number, experts: readonly ExpertId[]): void {
    this.order.needed(layer, experts);
  }

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

/**
 * `predicted` among the policies: equals leave as they came (SiDA §3.4: only the predicted experts are kept, first in,
 * first out where there is no room for them).
 */
export const predicted: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: () => new PredictedPolicy(),
};

const frequent = z.strictObject({ kind: z.literal('predictedLfu') });

/**
 * `predictedLfu` among the policies: of equals the one that was needed in the fewest passes leaves, which moves a sixth
 * fewer bytes than the order of arrival where predictions do not reach further than a text (docs/results/sida).
 */
export const predictedLfu: Kind<typeof frequent, PolicySurroundings, CachePolicy> = {
  schema: frequent,
  create: () => new PredictedPolicy(new LfuPolicy()),
};
