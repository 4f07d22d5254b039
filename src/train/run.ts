/**
 * The training loop over a run folder: log, evaluate, save, stop when asked, continue where it stopped.
 * @module
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { encodeJson, replaceFile, type JsonObject, type NamedTensor } from '../checkpoints/index.js';
import { loadStatistics } from '../metrics/index.js';
import { CheckpointError } from './checkpoint-error.js';
import { stepName } from './checkpoint-names.js';
import type { CheckpointInfo } from './checkpoint-store.js';
import type { CollapseWarning } from './collapse.js';
import type { TrainOptions } from './config.js';
import type { EvaluationReport } from './evaluator.js';
import type { Interruption } from './interruption.js';
import { namedTensors, saveModelWeights } from './model-folder.js';
import type { RunFolder } from './run-folder.js';
import type { RoutedLayer } from './step-program.js';
import type { StepReport, Trainer, TrainerState } from './trainer.js';

/** Called as a run goes on. */
export interface TrainingListener {
  readonly onStep?: (report: StepReport) => void;
  readonly onEvaluation?: (step: number, report: EvaluationReport) => void;
  readonly onCheckpoint?: (checkpoint: CheckpointInfo) => void;
  readonly onWarning?: (message: string, warning?: CollapseWarning) => void;
}

/** How a run ended. */
export interface TrainingResult {
  readonly step: number;
  /** `interrupted` runs can be resumed; the others are over. */
  readonly outcome: 'finished' | 'stoppedEarly' | 'interrupted';
  /** Evaluation of the weights in the model folder, or the newest one; absent if it was made by another process. */
  readonly evaluation: EvaluationReport | undefined;
  /** Step whose weights are in the model folder; only when the run is over. */
  readonly modelStep: number | undefined;
}

/** Arrays of a trainer as a checkpoint stores them. */
function arrays(trainer: Trainer): { model: NamedTensor[]; optimizer: NamedTensor[] } {
  const { shapes, weights, optimizerState } = trainer;
  const optimizer = [...optimizerState].flatMap(([state, arena]) =>
    [...arena.views].map(([name, data]): NamedTensor => {
      return { name: `${state}.${name}`, dtype: 'F32', shape: shapes.get(name)!, data };
    }),
  );
  // Read anew for every save: the arrays of the memory take turns.
  const memory = [...trainer.memory].map(([name, array]): NamedTensor => ({ name, dtype: 'F32', ...array }));
  return { model: namedTensors(shapes, weights.all), optimizer: [...optimizer, ...memory] };
}

/**
 * Continues a run from its newest usable checkpoint; a run without one starts over.
 * @returns what had to be passed over, one line each.
 */
export async function resumeTraining(trainer: Trainer, run: RunFolder): Promise<readonly string[]> {
  const found = await run.checkpoints.loadLatestUsable(arrays(trainer));
  if (found) trainer.restore(found.state as unknown as TrainerState);
  const aside = await run.rewind(trainer.step);
  return [...(found?.warnings ?? []), ...aside.map((path) => `set aside ${path}`)];
}

/** Saves the state before the first step, for runs that do not start from their seed alone. */
export async function saveStart(trainer: Trainer, run: RunFolder): Promise<void> {
  await run.checkpoints.save(trainer.step, {
    ...arrays(trainer),
    state: trainer.state() as unknown as JsonObject,
  });
}

/** Writes who got how many tokens of the validation set: `routing/step-000250.json`. */
async function saveRouting(
  run: RunFolder,
  step: number,
  routedLayers: readonly RoutedLayer[],
  { loads, dropped }: EvaluationReport,
): Promise<void> {
  if (loads.length === 0) return;
  const layers = loads.map((load, i) => ({
    layer: routedLayers[i].name,
    load,
    balance: loadStatistics(load, routedLayers[i].firstExpert).balance,
  }));
  const folder = join(run.path, 'routing');
  await mkdir(folder, { recursive: true });
  const text = `${encodeJson({ step, dropped, layers })}\n`;
  await replaceFile(join(folder, `${stepName(step)}.json`), (handle) => handle.writeFile(text));
}

/**
 * Trains until the recipe's end, an early stop, or an interruption; in each case the last step is saved. When the run
 * is over, its model folder holds the final weights, or with early stopping the best ones.
 *
 * @throws CheckpointError if a checkpoint cannot be saved; older ones stay as they were.
 */
export async function runTraining(
  trainer: Trainer,
  run: RunFolder,
  options: TrainOptions,
  interruption: Interruption,
  listener: TrainingListener = {},
): Promise<TrainingResult> {
  let evaluation: EvaluationReport | undefined;
  let bestEvaluation: EvaluationReport | undefined;
  let savedStep = trainer.step;
  const save = async (): Promise<void> => {
    if (savedStep === trainer.step) return;
    const metrics: Record<string, number> = evaluation ? { validationLoss: evaluation.loss } : {};
    const state = trainer.state() as unknown as JsonObject;
    try {
      const checkpoint = await run.checkpoints.save(trainer.step, { ...arrays(trainer), state }, { metrics });
      listener.onCheckpoint?.(checkpoint);
    } catch (error) {
      // The checkpoint itself is there; what is left (old ones not removed) must not end the run.
      if (!(error instanceof CheckpointError && error.code === 'finish')) throw error;
      listener.onWarning?.(error.message);
    }
    savedStep = trainer.step;
  };
  while (!trainer.finished && !interruption.requested) {
    const report = await trainer.update();
    run.append(stepRecord(report, trainer.routedLayers));
    for (const warning of report.warnings) {
      run.append({ step: report.step, warning: warning.message });
      listener.onWarning?.(warning.message, warning);
    }
    listener.onStep?.(report);
    const last = report.step >= options.steps;
    evaluation = undefined;
    if (report.step % options.evaluation.every === 0 || last) {
      const { best, ...measured } = await trainer.evaluate();
      evaluation = measured;
      if (best) bestEvaluation = measured;
      run.append(evaluationRecord(report.step, measured));
      await saveRouting(run, report.step, trainer.routedLayers, measured);
      listener.onEvaluation?.(report.step, measured);
      if (best && options.earlyStop !== null) await save();
    }
    if (report.step % options.checkpoint.every === 0 || trainer.finished) await save();
    // Signals are delivered between turns of the event loop, and a step keeps the thread busy.
    await nextTurn();
  }
  const over = trainer.finished;
  await save();
  const modelStep = over ? await saveFinalModel(trainer, run, options, listener) : undefined;
  if (modelStep !== undefined && modelStep !== trainer.step) evaluation = bestEvaluation;
  const outcome = !over ? 'interrupted' : trainer.stoppedEarly ? 'stoppedEarly' : 'finished';
  return { step: trainer.step, outcome, evaluation, modelStep };
}

async function saveFinalModel(
  trainer: Trainer,
  run: RunFolder,
  { earlyStop }: TrainOptions,
  listener: TrainingListener,
): Promise<number> {
  const { model } = arrays(trainer);
  const { bestStep } = trainer;
  const step = earlyStop !== null && bestStep !== null ? bestStep : trainer.step;
  if (step === trainer.step) {
    await saveModelWeights(join(run.path, 'model'), model);
    return step;
  }
  const copies = model.map((tensor): NamedTensor => ({ ...tensor, data: tensor.data.slice() }));
  try {
    await run.checkpoints.load(step, { model: copies });
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    listener.onWarning?.(
      `the best weights, of step ${step}, are lost; the model gets the last ones: ${error.message}`,
    );
    await saveModelWeights(join(run.path, 'model'), model);
    return trainer.step;
  }
  await saveModelWeights(join(run.path, 'model'), copies);
  return step;
}

function stepRecord(report: StepReport, routedLayers: readonly RoutedLayer[]): JsonObject & { step: number } {
  const {
    step,
    loss,
    taskLoss,
    auxiliary,
    learningRate,
    gradientNorm,
    tokens,
    dropped,
    milliseconds,
    loads,
  } = report;
  const total = milliseconds.data + milliseconds.session + milliseconds.optimizer;
  return {
    step,
    loss,
    taskLoss,
    learningRate,
    gradientNorm,
    tokens,
    milliseconds: total,
    // Models without routers have such losses too, where they learn from a teacher.
    ...(loads.length === 0 && Object.keys(auxiliary).length === 0 ? {} : { auxiliary }),
    ...(loads.length === 0
      ? {}
      : {
          dropped,
          routing: loads.map((load, i) => {
            const { name: layer, firstExpert } = routedLayers[i];
            const { balance, maxOverMean, dead } = loadStatistics(load, firstExpert);
            return { layer, load: [...load], balance, maxOverMean, dead: dead.length };
          }),
        }),
  };
}

function evaluationRecord(step: number, report: EvaluationReport): JsonObject & { step: number } {
  const { loss, perplexity, bitsPerByte, tokens, exactMatch, classification } = report;
  if (!classification) {
    const text = { loss, perplexity, bitsPerByte, tokens };
    return { step, validation: exactMatch === undefined ? text : { ...text, exactMatch } };
  }
  const { accuracy, f1, matthews, examples } = classification;
  const [a, f, m] = [accuracy, f1, matthews].map(({ value }) => value);
  return { step, validation: { loss, examples, accuracy: a, f1: f, matthews: m } };
}
