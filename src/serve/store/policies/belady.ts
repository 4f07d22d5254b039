/**
 * Belady's optimum, for those who know the future.
 * @module
 */
import { z } from 'zod';
import type { Kind } from '../../../moe/index.js';
import { ExpertNumbers, type CachePolicy, type ExpertId, type PolicySurroundings } from '../cache-policy.js';

/**
 * What is needed latest gives way, after a trace of the very passes that follow (Belady 1966). No policy loads fewer
 * experts, as long as what one layer of a pass needs fits into memory together. A bound to measure others by.
 */
export class BeladyPolicy implements CachePolicy {
  /** Steps that need each expert, in order. */
  private readonly uses = new Map<ExpertId, number[]>();
  /** Of {@link uses}, how many are in the past. */
  private readonly past = new Map<ExpertId, number>();
  private readonly steps: readonly { readonly layer: number; readonly experts: ReadonlySet<ExpertId> }[];
  private step = 0;

  constructor(numExperts: readonly number[], trace: NonNullable<PolicySurroundings['trace']>) {
    const numbers = new ExpertNumbers(numExperts);
    this.steps = trace.map(({ layer, experts }) => ({
      layer,
      experts: new Set(experts.map((expert) => numbers.idOf(layer, expert))),
    }));
    for (const [at, { experts }] of this.steps.entries()) {
      for (const expert of experts) {
        const uses = this.uses.get(expert);
        if (uses) uses.push(at);
        else this.uses.set(expert, [at]);
      }
    }
  }

  /** @throws RangeError if the passes are not those of the trace: an oracle that is wrong bounds nothing. */
  needed(layer: number, experts: readonly ExpertId[]): void {
    const foreseen = this.steps[this.step] as (typeof this.steps)[number] | undefined;
    const isForeseen =
      foreseen?.layer === layer &&
      foreseen.experts.size === experts.length &&
      experts.every((expert) => foreseen.experts.has(expert));
    if (foreseen && !isForeseen)
      throw new RangeError(
        `step ${this.step} is not that of the trace, which has ${foreseen.experts.size} experts of layer ${foreseen.layer}; ` +
          `there are ${experts.length} of layer ${layer}`,
      );
    this.step++;
    for (const expert of experts) this.past.set(expert, (this.past.get(expert) ?? 0) + 1);
  }

  loaded(): void {}
  evicted(): void {}
  expected(): void {}

  compare(a: ExpertId, b: ExpertId): number {
    const [nextA, nextB] = [this.nextUse(a), this.nextUse(b)];
    return nextA === nextB ? 0 : nextB > nextA ? 1 : -1;
  }

  private nextUse(expert: ExpertId): number {
    return this.uses.get(expert)?.[this.past.get(expert) ?? 0] ?? Infinity;
  }
}

const schema = z.strictObject({ kind: z.literal('belady') });

/** `belady` among the policies; it needs the trace of the passes that follow. */
export const belady: Kind<typeof schema, PolicySurroundings, CachePolicy> = {
  schema,
  create: (_, { numExperts, trace }) => {
    if (!trace)
      throw new RangeError('policy belady needs the routing trace of the very passes that it is used for');
    return new BeladyPolicy(numExperts, trace);
  },
};
