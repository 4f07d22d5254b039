/**
 * The trainer: everything that changes from step to step, and the step itself. It knows nothing of folders,
 * signals or terminals.
 * @module
 */
import { countTokens, shapeOf, type AnyBatch, type BatchState, type OpenData } from '../data/index.js';
import { add, multiply } from '../graph/index.js';
import { loadStatistics } from '../metrics/index.js';
import type { Model } from '../models/index.js';
import { nameParameters, type Parameter, type ParameterArena } from '../nn/index.js';
import type { RuntimeOptions } from '../runtime/index.js';
import { CollapseDetector, type CollapseState, type CollapseWarning } from './collapse.js';
import type { TrainOptions } from './config.js';
import { distilled, Teacher, type TeacherModel, type TeacherOptions } from './distillation.js';
import { Evaluator, type EvaluationReport } from './evaluator.js';
import { FlatPass, flatScalar, flatVector, SumOfSquares } from './flat-pass.js';
import { createWeights, type Weights } from './freeze.js';
import type { Objective } from './objective.js';
import { objectiveOf } from './objectives/index.js';
import type { Optimizer } from './optimizer.js';
import type { MemoryArray } from './segment-buffers.js';
import { createOptimizer } from './optimizers/index.js';
import { learningRateAt } from './schedule.js';
import { averageArrays, StepProgram, type BatchReport, type RoutedLayer } from './step-program.js';

/** What one update did. */
export interface StepReport extends BatchReport {
  /** Number of this update, from 1. */
  readonly step: number;
  readonly learningRate: number;
  /** Norm of all gradients before clipping. */
  readonly gradientNorm: number;
  /** Tokens read by this update. */
  readonly tokens: number;
  /** Where the time went. */
  readonly milliseconds: { readonly data: number; readonly session: number; readonly optimizer: number };
  /** How evenly each routed layer used the experts that it can choose: 1 is perfectly even. */
  readonly balances: readonly number[];
  readonly warnings: readonly CollapseWarning[];
}

/** Position of a run, as JSON: with the weights, the optimiser's arrays and the memory it is everything. */
export interface TrainerState {
  readonly step: number;
  readonly tokens: number;
  readonly data: BatchState;
  readonly collapse: CollapseState;
  readonly bestLoss: number | null;
  readonly bestStep: number | null;
  readonly evaluationsSinceBest: number;
}

/** What a {@link Trainer} is made of. */
export interface TrainerParts {
  readonly model: Model;
  /** Batches of the kind that the model reads. */
  readonly data: OpenData<AnyBatch>;
  readonly options: TrainOptions;
  /** Seed of weights and noise. */
  readonly seed: number;
  /** Whether training batches contain padding. */
  readonly padded: boolean;
  /** Whom the model learns from, where `options.distillation` asks for it. */
  readonly teacher?: TeacherModel | undefined;
}

/** Trains one model on one data set. */
export class Trainer {
  private step_ = 0;
  private tokens_ = 0;
  private bestLoss: number | null = null;
  private bestStep_: number | null = null;
  private evaluationsSinceBest = 0;
  private readonly collapse = new CollapseDetector();
  private evaluator: Evaluator | undefined;

  private constructor(
    private readonly parts: TrainerParts,
    private readonly objective: Objective,
    /** Every weight of the model; updates change them in place. */
    readonly weights: Weights,
    private readonly parameters: ReadonlyMap<string, Parameter>,
    private readonly program: StepProgram,
    private readonly gradients: ParameterArena,
    private readonly optimizer: Optimizer,
    private readonly norm: SumOfSquares,
    private readonly accumulation: { readonly total: ParameterArena; readonly pass: FlatPass } | undefined,
    private readonly teacher: Teacher | undefined,
  ) {}

  /**
   * Compiles the step and starts the weights.
   * @throws DeviceError if the device is not available.
   * @throws RangeError if the model has a memory and the batches do not go on where those before ended, or a teacher
   *   does not fit.
   */
  static async create(parts: TrainerParts): Promise<Trainer> {
    const { model, data, options, seed, padded } = parts;
    const shape = shapeOf(data.train);
    const runtime = runtimeOptions(options);
    const teacher = await createTeacher(parts, { shape, padded, runtime });
    const plain = objectiveOf(model);
    const { distillation } = options;
    const objective = teacher && distillation ? distilled(plain, teacher, distillation) : plain;
    objective.requireContinuation(data.train, 'training batches');
    const parameters = nameParameters(model);
    // Weights, gradients and two moments; with accumulation a second set of gradients.
    const arenas = options.accumulation === 1 ? 4 : 5;
    const weights = createWeights(parameters, options.freeze, seed, arenas);
    const gradients = weights.trainable.like();
    const threads = options.threads ?? undefined;
    const program = await StepProgram.create(
      objective,
      parameters,
      weights.trainable,
      gradients,
      weights.frozen,
      {
        shape,
        padded,
        runtime,
        seed,
      },
    );
    const accumulation =
      options.accumulation === 1
        ? undefined
        : {
            total: gradients.like(),
            pass: new FlatPass(
              { total: add(flatVector('total'), multiply(flatVector('gradient'), flatScalar('weight'))) },
              weights.trainable.memory,
              threads,
            ),
          };
    const source = accumulation?.total ?? gradients;
    const optimizer = createOptimizer(options.optimizer, weights.trainable, source, threads);
    const norm = new SumOfSquares(weights.trainable.memory, threads);
    return new Trainer(
      parts,
      objective,
      weights,
      parameters,
      program,
      gradients,
      optimizer,
      norm,
      accumulation,
      teacher,
    );
  }

  /** Updates made so far. */
  get step(): number {
    return this.step_;
  }

  /** Tokens read so far. */
  get tokensSeen(): number {
    return this.tokens_;
  }

  /** Step of the lowest validation loss, if any was measured. */
  get bestStep(): number | null {
    return this.bestStep_;
  }

  /** Parameters with their shapes, by name. */
  get shapes(): ReadonlyMap<string, readonly number[]> {
    return new Map([...this.parameters].map(([name, { shape }]) => [name, shape]));
  }

  /** Arrays of the optimiser, by its own names. */
  get optimizerState(): ReadonlyMap<string, ParameterArena> {
    return this.optimizer.state;
  }

  /** What layers remember of the batches before, by name: a part of the run's position. Empty without a memory. */
  get memory(): ReadonlyMap<string, MemoryArray> {
    return this.program.memory?.arrays ?? new Map<string, MemoryArray>();
  }

  /** Layers that route, in the order in which reports list loads. */
  get routedLayers(): readonly RoutedLayer[] {
    return this.program.routedLayers;
  }

  /** Whether the recipe's steps are done or early stopping has struck. */
  get finished(): boolean {
    return this.step_ >= this.parts.options.steps || this.stoppedEarly;
  }

  /** Whether validation has not improved for as long as the recipe tolerates. */
  get stoppedEarly(): boolean {
    const { earlyStop } = this.parts.options;
    return earlyStop !== null && this.evaluationsSinceBest >= earlyStop.patience;
  }

  /**
   * One update of the parameters.
   * @throws Error if loss or gradients are not finite; the parameters are then as they were.
   */
  async update(): Promise<StepReport> {
    const { options, data } = this.parts;
    const milliseconds = { data: 0, session: 0, optimizer: 0 };
    const reports: BatchReport[] = [];
    const weights: number[] = [];
    let tokens = 0;
    for (let part = 0; part < options.accumulation; part++) {
      const begin = performance.now();
      const batch = data.train.next();
      tokens += countTokens(batch);
      // Each batch's loss is a mean over its own targets: padded batches must not count as much as full ones.
      weights.push(
        batch.targets.reduce((count, target) => count + Number(target >= 0), 0) / batch.targets.length,
      );
      const fetched = performance.now();
      await this.teacher?.run(batch);
      const number = this.step_ * options.accumulation + part;
      const restarts = 'restarts' in batch && batch.restarts;
      reports.push(await this.program.run(this.objective.feeds(batch), number, restarts));
      milliseconds.data += fetched - begin;
      milliseconds.session += performance.now() - fetched;
      await this.accumulate(part, weights[part]);
    }
    const report = averageReports(reports, weights);
    const divisor = this.accumulation ? weights.reduce((a, b) => a + b, 0) : 1;
    const begin = performance.now();
    const source = this.accumulation?.total ?? this.gradients;
    const gradientNorm = Math.sqrt(await this.norm.of(source.data)) / divisor;
    if (!Number.isFinite(report.loss) || !Number.isFinite(gradientNorm)) {
      throw new Error(
        `step ${this.step_ + 1}: loss ${report.loss}, gradient norm ${gradientNorm}: training has diverged; lower schedule.learningRate`,
      );
    }
    const { clipNorm, steps, schedule } = options;
    const clip = clipNorm === null || gradientNorm <= clipNorm ? 1 : clipNorm / (gradientNorm + 1e-6);
    const learningRate = learningRateAt(this.step_, steps, schedule);
    await this.optimizer.update({
      update: this.step_ + 1,
      learningRate,
      gradientScale: clip / divisor,
    });
    for (const [name, observation] of report.observations) {
      const { states, trainable, all } = this.weights;
      if (states.has(name) || trainable.views.has(name))
        this.program.applyState(name, all.get(name)!, observation);
    }
    milliseconds.optimizer = performance.now() - begin;
    this.step_++;
    this.tokens_ += tokens;
    const warnings = options.collapseWarning
      ? this.collapse.observe(this.step_, this.routedLayers, report.loads)
      : [];
    const balances = report.loads.map(
      (load, i) => loadStatistics(load, this.routedLayers[i].firstExpert).balance,
    );
    return {
      ...report,
      step: this.step_,
      learningRate,
      gradientNorm,
      tokens,
      milliseconds,
      balances,
      warnings,
    };
  }

  /** Adds the weighted gradients of one batch to those before it. */
  private async accumulate(part: number, weight: number): Promise<void> {
    if (!this.accumulation) return;
    const { total, pass } = this.accumulation;
    if (part === 0) total.data.fill(0);
    await pass.run({ total: total.data, gradient: this.gradients.data }, { weight });
  }

  /** Measures the model on the validation set and remembers whether it was the best so far. */
  async evaluate(): Promise<EvaluationReport & { readonly best: boolean }> {
    const { model, data, options } = this.parts;
    this.evaluator ??= await Evaluator.create(
      model,
      this.weights.all,
      shapeOf(data.train),
      runtimeOptions(options),
    );
    const { maxBatches } = options.evaluation;
    const report = await this.evaluator.evaluate(data.validation(), data.tokenizer, maxBatches);
    const best = this.bestLoss === null || report.loss < this.bestLoss;
    if (best) [this.bestLoss, this.bestStep_] = [report.loss, this.step_];
    this.evaluationsSinceBest = best ? 0 : this.evaluationsSinceBest + 1;
    return { ...report, best };
  }

  /** Everything that is not an array of numbers. */
  state(): TrainerState {
    return {
      step: this.step_,
      tokens: this.tokens_,
      data: this.parts.data.train.state(),
      collapse: this.collapse.state(),
      bestLoss: this.bestLoss,
      bestStep: this.bestStep_,
      evaluationsSinceBest: this.evaluationsSinceBest,
    };
  }

  /** Continues from `state()`; weights, optimiser arrays and memory are restored in place by the caller. */
  restore(state: TrainerState): void {
    this.step_ = state.step;
    this.tokens_ = state.tokens;
    this.parts.data.train.restore(state.data);
    this.collapse.restore(state.collapse);
    this.bestLoss = state.bestLoss;
    this.bestStep_ = state.bestStep;
    this.evaluationsSinceBest = state.evaluationsSinceBest;
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    await this.program.release();
    await this.evaluator?.release();
    await this.optimizer.release();
    await this.norm.release();
    await this.accumulation?.pass.release();
    await this.teacher?.release();
  }
}

async function createTeacher(
  { teacher, options }: TrainerParts,
  settings: TeacherOptions,
): Promise<Teacher | undefined> {
  if ((options.distillation === null) !== (teacher === undefined))
    throw new RangeError('a teacher and train.distillation need each other');
  return teacher && Teacher.create(teacher, settings);
}

/** Where the recipe wants programs to run. */
export function runtimeOptions({
  device,
  threads,
}: Pick<TrainOptions, 'device' | 'threads'>): RuntimeOptions {
  return threads === null ? { device } : { device, threads };
}

/** One report for several batches, each counted by its weight. */
function averageReports(reports: readonly BatchReport[], weights: readonly number[]): BatchReport {
  const [first] = reports;
  if (reports.length === 1) return first;
  const total = weights.reduce((a, b) => a + b, 0);
  const mean = (value: (report: BatchReport) => number): number =>
    reports.reduce((sum, report, i) => sum + weights[i] * value(report), 0) / total;
  return {
    loss: mean((report) => report.loss),
    taskLoss: mean((report) => report.taskLoss),
    auxiliary: Object.fromEntries(
      Object.keys(first.auxiliary).map((name) => [name, mean((report) => report.auxiliary[name])]),
    ),
    loads: first.loads.map((load, layer) =>
      load.map((_, expert) => reports.reduce((sum, report) => sum + report.loads[layer][expert], 0)),
    ),
    dropped: reports.reduce((sum, report) => sum + report.dropped, 0),
    observations: new Map(
      [...first.observations.keys()].map((name) => [
        name,
        averageArrays(
          reports.map((report) => report.observations.get(name)!),
          weights,
        ),
      ]),
    ),
  };
}
