/**
 * The heart: routers, dispatch, experts, losses, and the sparse layer that joins them.
 * @module
 */
export { activations, type Activation, type ActivationName } from './activations.js';
export { weightedSum, type Combine } from './combine.js';
export { DenseFeedForward, type DenseOptions } from './dense.js';
export type { Dispatch, Dispatched } from './dispatch.js';
export { CapacityDispatch, expertCapacity, type CapacityOptions } from './dispatch/capacity.js';
export { ExpertChoiceDispatch, type ExpertsChoice } from './dispatch/expert-choice.js';
export { DroplessDispatch } from './dispatch/dropless.js';
export type { ExpertBank, ExpertRows, ExpertWeights } from './expert-bank.js';
export { FactorisedBank, type FactorisedBankOptions } from './experts/factorised-bank.js';
export { FeedForwardBank, type FeedForwardBankOptions } from './experts/feed-forward-bank.js';
export type {
  AuxiliaryLoss,
  FeedForward,
  FeedForwardContext,
  FeedForwardOutput,
  RoutingRecord,
  TokenCost,
} from './feed-forward.js';
export {
  balanceLoss,
  chosenShares,
  entropyLoss,
  expertLoad,
  importanceLoss,
  loadLoss,
  pooledBalanceLoss,
  routerZLoss,
  type BalanceForm,
  type NoisyDecision,
} from './losses.js';
export type { GateRule, Router, RouterModule, Routing } from './router.js';
export { AdaptiveClusteringRouter, type AdaptiveClusteringOptions } from './routers/adaptive-clustering.js';
export { clusteringPresets, type ClusteringSettings } from './routers/adaptive-clustering/settings.js';
export { BiasBalancedRouter, type BiasBalancedOptions } from './routers/bias-balanced.js';
export { ExpertChoiceRouter, type ExpertChoiceOptions } from './routers/expert-choice.js';
export { HashRouter, type HashOptions } from './routers/hash.js';
export { NoisyTopKRouter, type NoisyTopKOptions } from './routers/noisy-top-k.js';
export { RandomRouter, type RandomOptions } from './routers/random.js';
export { SigmoidRouter, type SigmoidRouterOptions } from './routers/sigmoid.js';
export { SinkhornRouter, type SinkhornRouterOptions } from './routers/sinkhorn.js';
export { SoftmaxTopKRouter, type SoftmaxTopKOptions } from './routers/softmax-top-k.js';
export { routingRecord, SparseLayer, type SparseLayerParts } from './sparse-layer.js';
export { activationSchema } from './options.js';
export { RepeatedDecision, RouterPool, routerSharingSchema, type RouterSharing } from './router-sharing.js';
export { createKind, kindUnion, type Kind, type Kinds, type KindSchema } from './kind.js';
export { addCosts, moduleCost } from './cost.js';
export type { LayerSizes, SparseLayerSizes } from './sizes.js';
export { routerKinds, routerSchema } from './routers/index.js';
export { dispatchKinds, dispatchSchema } from './dispatch/index.js';
export { bankKinds, expertsSchema } from './experts/index.js';
export { layerKinds } from './layers/index.js';
export { expectedRequestedCapacity } from './layers/strata.js';
export { ProductKeyMemory, type ProductKeyOptions } from './layers/product-key-memory.js';
export { StratifiedLayer, type StratifiedOptions } from './layers/stratified.js';
export { TopKActivation, type TopKActivationOptions } from './layers/top-k-activation.js';
export {
  countSparseBlocks,
  createSparseLayer,
  isSparseBlock,
  placementProblem,
  sparseSchema,
  type SparseOptions,
  type SparsePlacement,
} from './config.js';
