/**
 * The experts of a checkpoint under a budget.
 * @module
 */
import type { Checkpoint } from '../../checkpoints/index.js';
import type { RoutedStep } from './cache-policy.js';
import type { ColdTraits } from './cold-experts.js';
import { expertBanks } from './expert-banks.js';
import { planMemory, type MemoryNeeds, type MemoryPlan } from './memory-plan.js';
import { PagedExpertStore, type PagedStoreOptions } from './paged-store.js';
import { createPolicy, type PolicyName } from './policies/index.js';
import { openColdExperts } from './sources/open.js';

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
  /** Whether matrices are to lie `[out, in]`, as packed folders have them; true when absent. */
  readonly transposed?: boolean;
}

/** A store, and what memory it takes. */
export interface OpenedStore {
  readonly store: PagedExpertStore;
  readonly plan: MemoryPlan;
  readonly cold: ColdTraits;
}

/**
 * Opens a store over the experts of a checkpoint. Where all fit, all are read at once; where the policy knows which are
 * worth it, those.
 *
 * @param checkpoint is closed with the store, or at once if this throws.
 * @throws MemoryBudgetError if not even one expert fits; RangeError if the policy needs a trace, or there are no experts;
 *   ExpertReadError.
 */
export async function openExpertStore(
  checkpoint: Checkpoint,
  { budget, policy = 'lfu', trace, transposed = true, readsAtOnce, warmUp, ...fixed }: ExpertStoreOptions,
): Promise<OpenedStore> {
  const layers = expertBanks(checkpoint.options, transposed);
  const numExperts = layers.map((layer) => layer.numExperts);
  const cold = await openColdExperts(checkpoint, layers).catch(async (error: unknown) => {
    await checkpoint.close();
    throw error;
  });
  try {
    const { slotBytes, traits } = cold;
    const total = numExperts.reduce((a, b) => a + b, 0);
    const plan = planMemory({ ...fixed, numExperts: total, slotBytes, cold: traits }, budget);
    const store = new PagedExpertStore(cold, {
      slots: plan.slots,
      policy: createPolicy(policy, { numExperts, trace }),
      ...(readsAtOnce === undefined ? {} : { readsAtOnce }),
      ...(warmUp === undefined ? {} : { warmUp }),
    });
    if (plan.isAllInMemory || policy === 'static') await store.preload();
    return { store, plan, cold: traits };
  } catch (error) {
    await cold.close();
    throw error;
  }
}
