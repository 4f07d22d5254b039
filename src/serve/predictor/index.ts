/**
 * Predictors of routing: SiDA's network, recordings of what routers decided, training, evaluation.
 * @module
 */
export { CausalPredictor, type TextMemory } from './causal-predictor.js';
export { CausalPrefetch } from './causal-prefetch.js';
export { PredictorError } from './errors.js';
export {
  evaluatePredictor,
  type EvaluationOptions,
  type HitRates,
  type PredictorEvaluation,
} from './evaluate-predictor.js';
export {
  embeddingName,
  fromWeights,
  requireFingerprint,
  routingFingerprint,
  type ParameterSource,
} from './fingerprint.js';
export {
  hashTable,
  type HashTable,
  type LayerTable,
  type TablePredictor,
  type TableSource,
} from './hash-table.js';
export {
  predictorLoss,
  predictorLossSchema,
  type PredictorLossOptions,
  type TeacherRouting,
} from './losses.js';
export { RoutingPredictor } from './network.js';
export { predictorSchema, type PredictedLayer, type PredictorOptions } from './options.js';
export { openPredictorFor, type OpenedPredictor } from './open-predictor.js';
export { loadPredictor, savePredictor, type LoadedPredictor } from './predictor-folder.js';
export { PredictorProgram, type LayerPrediction, type PredictorProgramOptions } from './predictor-program.js';
export { PredictorProcess, type PredictorProcessOptions } from './predictor-process.js';
export type { PredictorStep } from './predictor-trainer.js';
export type { RecordedDecisions, RecordedLayer, RecordingManifest } from './recording-format.js';
export { RoutingRecording } from './recording.js';
export {
  LookAheadPrefetch,
  PredictedPrefetch,
  PredictedRouting,
  type PredictedRoutingOptions,
} from './routing-modes.js';
export { recordRouting, type RecordingOptions } from './routing-recorder.js';
export { sparsemax, type SparsemaxForm } from './sparsemax.js';
export { TablesAhead, type PipelineStats } from './tables-ahead.js';
export { predictorTrainSchema, type PredictorTrainOptions } from './train-options.js';
export { trainPredictor, type TrainPredictorOptions } from './train-predictor.js';
