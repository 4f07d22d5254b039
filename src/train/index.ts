/**
 * Optimisers, schedules, the trainer, run folders.
 * @module
 */
export { CollapseDetector, type CollapseWarning } from './collapse.js';
export { optimizerSchema, trainSchema, type TrainOptions } from './config.js';
export { Evaluator, type EvaluatedBatch, type EvaluationReport } from './evaluator.js';
export { createWeights, matchesPattern, type Weights } from './freeze.js';
export { traceObjective, type TracedObjective } from './language-modelling.js';
export type { Optimizer, UpdateSettings } from './optimizer.js';
export { createOptimizer } from './optimizers/index.js';
export { learningRateAt, type ScheduleOptions } from './schedule.js';
export { StepProgram, type BatchReport } from './step-program.js';
export { runtimeOptions, Trainer, type StepReport, type TrainerState } from './trainer.js';
