/**
 * Optimisers, schedules, the trainer, run folders.
 * @module
 */
export { RunLock, type RunLockOptions } from './run-lock.js';
export { CheckpointError, type CheckpointErrorCode } from './checkpoint-error.js';
export { CheckpointStore, type CheckpointInfo } from './checkpoint-store.js';
export { CollapseDetector, type CollapseWarning } from './collapse.js';
export { optimizerSchema, trainSchema, type TrainOptions } from './config.js';
export { copyFromTeacher, fingerprintOf, type TeacherModel } from './distillation.js';
export { Evaluator, type EvaluatedBatch, type EvaluationReport } from './evaluator.js';
export { createWeights, matchesPattern, type Weights } from './freeze.js';
export { Interruption } from './interruption.js';
export {
  batchFeeds,
  evaluationOrder,
  memoryLength,
  traceObjective,
} from './objectives/language-modelling.js';
export { readMetrics } from './metrics-log.js';
export {
  loadLanguageModel,
  loadModel,
  loadTextModel,
  namedTensors,
  openTokenizer,
  saveModelConfig,
  saveModelWeights,
  type LoadedLanguageModel,
  type LoadedTextModel,
  type LoadedModel,
  expertForms,
  type ExpertForm,
  type LoadOptions,
} from './model-folder.js';
export type { Objective, ObjectiveTrace, TracedObjective } from './objective.js';
export { objectiveOf } from './objectives/index.js';
export type { Optimizer, UpdateSettings } from './optimizer.js';
export { createOptimizer } from './optimizers/index.js';
export { resumeTraining, runTraining, saveStart, type TrainingListener, type TrainingResult } from './run.js';
export { assertNoRun, readRecipe, RunFolder } from './run-folder.js';
export { RunFolderError } from './run-folder-error.js';
export { SumOfSquares } from './flat-pass.js';
export { learningRateAt, type ScheduleOptions } from './schedule.js';
export { SegmentBuffers } from './segment-buffers.js';
export { StepProgram, type BatchReport } from './step-program.js';
export { runtimeOptions, Trainer, type StepReport, type TrainerState } from './trainer.js';
