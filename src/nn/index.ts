/**
 * Transformer layers, initialisers, and the module tree.
 * @module
 */
export * from './random.js';
export * from './initializers.js';
export { Module, nameParameters, Parameter, type StateUpdate } from './module.js';
export {
  evaluationContext,
  NoiseInputs,
  trainingContext,
  type NoiseKind,
  type TraceContext,
} from './context.js';
export type { ExpertRequest, ExpertsElsewhere, RoutingRequest } from './experts-elsewhere.js';
export { applyWeight, dropout, Embedding, LayerNorm, Linear, RMSNorm } from './layers.js';
export { RelativePositionBias, relativeBucket } from './positions.js';
export { rotaryTables, scoreFactor } from './rotary.js';
export { sinusoids } from './sinusoid.js';
export {
  Attention,
  scaledDotProductAttention,
  type AttentionInputs,
  type AttentionLayer,
  type AttentionOptions,
  type AttentionPast,
  type AttentionSizes,
  type CacheEntry,
  type CacheSizes,
} from './attention.js';
export { sinusoidTable, TransformerXLAttention } from './transformer-xl-attention.js';
export { LatentAttention, type LatentAttentionSizes } from './latent-attention.js';
export { SpanAttention, SpanPositions } from './span-attention.js';
export { crossEntropy, maskedMean } from './loss.js';
export { ParameterArena, startParameter } from './arena.js';
