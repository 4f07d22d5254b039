/**
 * The most popular experts stay.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import { ExpertNumbers, type CachePolicy, type ExpertId, type PolicySurroundings } from '../cache-policy.js';

/**
 * Experts are ranked once, by how many steps of a recorded trace need them, and never again: what is least popular gives
 * way, so the top of the list stays and the rest takes turns in the last place. The baseline of a fixed placement.
 */
export class StaticPolicy implements CachePolicy {
  readonly placement: readonly ExpertId[];
  private readonly uses: readonly number[];

  constructor(numExperts: readonly number[], trace: NonNullable<PolicySurroundings['trace']>) {
    const numbers = new ExpertNumbers(numExperts);
    const uses = new Array<number>(numbers.total).fill(0);
    for (const { layer, experts } of trace) {
      for (const expert of new Set(experts)) uses[numbers.idOf(layer, expert)]++;
    }
    this.uses = uses;
    this.placement = [...uses.keys()].sort((a, b) => uses[b] - uses[a] || a - b);
  }

  needed(): void {}
  loaded(): void {}
  evicted(): void {}
  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    return this.uses[a] - this.uses[b] || b - a;
  }
}

const schema = z.strictObject({ kind: z.literal('static') });

/** `static` among the policies; it needs a trace of earlier passes. */
export const staticPlacement: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: (_, { numExperts, trace }) => {
    if (!trace) throw new RangeError('policy static needs a routing trace to know which experts are popular');
    return new StaticPolicy(numExperts, trace);
  },
};
