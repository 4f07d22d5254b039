/**
 * Weights of experts under a memory budget.
 * @module
 */
export {
  chooseVictim,
  type CachePolicy,
  type ExpertId,
  type PolicySurroundings,
  type RoutedStep,
} from './cache-policy.js';
export type { ColdExperts, ColdLayer, ColdTraits, PlacedParameter } from './cold-experts.js';
export { expertBanks } from './expert-banks.js';
export type {
  ExpertLayerInfo,
  ExpertLease,
  ExpertPlace,
  ExpertStore,
  ExpertStoreEvent,
  ExpertStoreStats,
  LayerExperts,
} from './expert-store.js';
export { MemoryBudgetError, planMemory, type MemoryNeeds, type MemoryPlan } from './memory-plan.js';
export { formatBytes, parseBytes } from './memory-size.js';
export { openExpertStore, type ExpertStoreOptions, type StoreWithPlan } from './open-store.js';
export { PagedExpertStore, type PagedStoreOptions } from './paged-store.js';
export { createPolicy, policyNames, policySchema, type PolicyName } from './policies/index.js';
export { readRoutedSteps, RoutingTraceError } from './routed-steps.js';
export { simulateCache, type CacheSimulation, type CacheSimulationOptions } from './simulate-cache.js';
export type { Slot } from './slot-memory.js';
export { ExpertReadError, StoreClosedError } from './store-errors.js';
export { CheckpointExperts } from './sources/checkpoint-experts.js';
export { openColdExperts } from './sources/open.js';
export { PackedExperts } from './sources/packed-experts.js';
