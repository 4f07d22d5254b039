/**
 * Predictors of routing: SiDA's network, recordings of what routers decided, training, evaluation.
 * @module
 */
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
  predictorLoss,
  predictorLossSchema,
  type PredictorLossOptions,
  type TeacherRouting,
} from './losses.js';
export { RoutingPredictor } from './network.js';
export { predictorSchema, type PredictedLayer, type PredictorOptions } from './options.js';
export { loadPredictor, savePredictor, type LoadedPredictor } from './predictor-folder.js';
export { PredictorProgram, type LayerPrediction, type PredictorProgramOptions } from './predictor-program.js';
export type { PredictorStep } from './predictor-trainer.js';
export type { RecordedDecisions, RecordedLayer, RecordingManifest } from './recording-format.js';
export { RoutingRecording } from './recording.js';
export { recordRouting, type RecordingOptions } from './routing-recorder.js';
export { sparsemax, type SparsemaxForm } from './sparsemax.js';
export { predictorTrainSchema, type PredictorTrainOptions } from './train-options.js';
export { trainPredictor, type TrainPredictorOptions } from './train-predictor.js';
