/**
 * Served models: an engine that answers many requests at once while only some experts are in memory.
 * @module
 */
export type {
  Classification,
  EngineClient,
  EngineEvent,
  EngineState,
  GenerationRequest,
  ModelInfo,
  Placement,
  Prompt,
  PromptRead,
  PromptToken,
  RequestOptions,
  RoutedLayerInfo,
  ScoredToken,
  TextEnded,
  TextsRequest,
  TextVector,
  TokenAdded,
  TokenProbabilities,
  TokenRouting,
} from './engine-client.js';
export { servingModes, type EngineSource, type ServingMode } from './engine/engine-source.js';
export { openEngine } from './engine/open-engine.js';
export { ChildEngine, type ChildEngineOptions } from './process/child-engine.js';
export {
  EngineError,
  EngineUnavailableError,
  QueueFullError,
  RequestError,
  TimeLimitError,
  type EngineErrorCode,
} from './engine-errors.js';
export type { EngineStats, Histogram, RequestCounts } from './engine-stats.js';
export { defaultLimits, type EngineLimits } from './engine/engine-limits.js';
export { Engine } from './engine/engine.js';
export { servedParts, type PreparedModel, type ServedParts } from './engine/served-parts.js';
export type {
  PassStart,
  Prefetcher,
  RoutingDecision,
  RoutingObserver,
  RoutingSource,
  SuppliedRouting,
} from './engine/hooks.js';
export * from './predictor/index.js';
export * from './store/index.js';
export * from './http/index.js';
export * from './load/index.js';
export { dequantise, quantise, type MatrixLayout, type QuantiseOptions } from './quantised/blocks.js';
export { QuantisedExperts, type QuantisedSource } from './quantised/quantised-experts.js';
export { openRoundedExperts, storeRoundedExperts } from './quantised/stored-experts.js';
export { RoundedExperts, type RoundingOptions } from './quantised/rounded-experts.js';
export { expertParameters, openSplitModel, type SplitModelOptions } from './engine/split-model.js';
export {
  loadServedModel,
  type LoadServedModelOptions,
  type OpenedStore,
  type ServedModel,
} from './engine/load-served-model.js';
