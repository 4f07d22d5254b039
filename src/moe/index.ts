/**
 * The heart: routers, dispatch, experts, losses, and the sparse layer that joins them.
 * @module
 */
export { activations, type Activation, type ActivationName } from './activations.js';
export { weightedSum, type Combine } from './combine.js';
export { DenseFeedForward, type DenseOptions } from './dense.js';
export type { Dispatch, Dispatched } from './dispatch.js';
export { CapacityDispatch, expertCapacity, type CapacityOptions } from './dispatch/capacity.js';
export { DroplessDispatch } from './dispatch/dropless.js';
export type { ExpertBank, ExpertRows } from './expert-bank.js';
export { FeedForwardBank, type FeedForwardBankOptions } from './experts/feed-forward-bank.js';
export type {
  AuxiliaryLoss,
  FeedForward,
  FeedForwardContext,
  FeedForwardOutput,
  RoutingRecord,
} from './feed-forward.js';
export { balanceLoss, expertLoad, routerZLoss } from './losses.js';
export type { Router, Routing } from './router.js';
export { SoftmaxTopKRouter, type SoftmaxTopKOptions } from './routers/softmax-top-k.js';
export { SparseLayer, type SparseLayerParts } from './sparse-layer.js';
export {
  activationSchema,
  createSparseLayer,
  dispatchSchema,
  expertsSchema,
  isSparseBlock,
  routerSchema,
  sparseSchema,
  type SparseLayerSizes,
  type SparseOptions,
} from './config.js';
