/**
 * Experts under a budget.
 * @module
 */
import type { RoutedStep } from './cache-policy.js';
import type { ColdExperts } from './cold-experts.js';
import { planMemory, type MemoryNeeds, type MemoryPlan } from './memory-plan.js';
import { PagedExpertStore, type PagedStoreOptions } from './paged-store.js';
import { createPolicy, type PolicyName } from './policies/index.js';

/** Settings of {@link openExpertStore}. */
export interface ExpertStoreOptions
  extends
    Pick<MemoryNeeds, 'residentBytes' | 'keyValueBytes' | 'scratchBytes'>,
    Partial<Pick<PagedStoreOptions, 'readsAtOnce' | 'warmUp'>> {
  /** Bytes for everything; all experts are held when absent. */
  readonly budget?: number | undefined;
  /** Which expert gives way; `lfu` when absent. */
  readonly policy?: PolicyName | undefined;
  /** What policies `static` and `belady` go by. */
  readonly trace?: readonly RoutedStep[] | undefined;
}

/** A store, and what memory it takes. */
export interface StoreWithPlan {
  readonly store: PagedExpertStore;
  readonly plan: MemoryPlan;
}

/**
 * Opens a store over a cold tier. Where all experts fit, all are read at once; where the policy knows which are worth it,
 * those.
 *
 * @param cold is closed with the store, or at once if this throws.
 * @throws MemoryBudgetError if not even one expert fits; RangeError if the policy needs a trace, or there are no experts;
 *   ExpertReadError.
 */
export async function openExpertStore(
  cold: ColdExperts,
  { budget, policy = 'lfu', trace, readsAtOnce, warmUp, ...fixed }: ExpertStoreOptions,
): Promise<StoreWithPlan> {
  try {
    const numExperts = cold.layers.map((layer) => layer.numExperts);
    const total = numExperts.reduce((a, b) => a + b, 0);
    const plan = planMemory(
      { ...fixed, numExperts: total, slotBytes: cold.slotBytes, cold: cold.traits },
      budget,
    );
    const store = new PagedExpertStore(cold, {
      slots: plan.slots,
      policy: createPolicy(policy, { numExperts, trace }),
      ...(readsAtOnce === undefined ? {} : { readsAtOnce }),
      ...(warmUp === undefined ? {} : { warmUp }),
    });
    if (plan.isAllInMemory || policy === 'static') await store.preload();
    return { store, plan };
  } catch (error) {
    await cold.close();
    throw error;
  }
}
