/**
 * Trains a predictor on a recording.
 * @module
 */
import {
  argMax,
  add,
  cast,
  divide,
  equal,
  gather,
  gradients as differentiate,
  input,
  reshape,
  type Tensor,
} from '../../graph/index.js';
import { maskedMean, nameParameters, ParameterArena } from '../../nn/index.js';
import { compile, type Program } from '../../runtime/index.js';
import { createOptimizer, learningRateAt, SumOfSquares, type Optimizer } from '../../train/index.js';
import { embeddingName } from './fingerprint.js';
import { PerBucket } from './length-buckets.js';
import { predictorLoss } from './losses.js';
import { RoutingPredictor } from './network.js';
import type { PredictorOptions } from './options.js';
import type { RoutingRecording } from './recording.js';
import { TrainingBatches, teacherFeeds, tokenFeeds } from './training-batches.js';
import type { PredictorTrainOptions } from './train-options.js';

/** What a {@link PredictorTrainer} is made of. */
export interface PredictorTrainerParts {
  readonly recording: RoutingRecording;
  readonly predictor: PredictorOptions;
  /** The model's token embeddings `[vocabSize, embeddingSize]`, row after row. */
  readonly embeddings: Float32Array;
  readonly options: PredictorTrainOptions;
}

/** What one update did. */
export interface PredictorStep {
  /** Number of this update, from 1. */
  readonly step: number;
  readonly loss: number;
  /** Share of the batch's tokens and layers where the first guess was the router's first choice. */
  readonly hitRate: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** Positions read by this update. */
  readonly positions: number;
}

/** The predictor, its optimiser, and the position in the recording. */
export class PredictorTrainer {
  private step_ = 0;

  private constructor(
    private readonly parts: PredictorTrainerParts,
    readonly network: RoutingPredictor,
    /** Parameters; updates change them in place. */
    readonly values: ParameterArena,
    private readonly programs: PerBucket<Program>,
    private readonly batches: TrainingBatches,
    private readonly gradients: ParameterArena,
    readonly optimizer: Optimizer,
    private readonly norm: SumOfSquares,
  ) {}

  /** Starts the parameters; programs are compiled when a batch needs them. */
  static create(parts: PredictorTrainerParts): PredictorTrainer {
    const { recording, predictor, embeddings, options } = parts;
    const { threads, batchSize, seed } = options;
    const network = new RoutingPredictor(predictor);
    const parameters = nameParameters(network);
    const values = ParameterArena.allocate(parameters).initialize(parameters, seed);
    const gradients = values.like();
    const runtime = threads === null ? {} : { threads };
    const programs = new PerBucket(recording.manifest.contextLength, async (length) => {
      const { outputs, names } = traceStep(parts, network, length);
      const program = (await compile(outputs, runtime)).bindKnown(values.views);
      program.bind({ [embeddingName]: embeddings });
      for (const name of names) program.bindOutput(`gradient.${name}`, gradients.views.get(name)!);
      return program;
    });
    const optimizer = createOptimizer(options.optimizer, values, gradients, threads ?? undefined);
    const norm = new SumOfSquares(values.memory, threads ?? undefined);
    const batches = new TrainingBatches(recording, batchSize, seed);
    return new PredictorTrainer(parts, network, values, programs, batches, gradients, optimizer, norm);
  }

  /** Updates done. */
  get step(): number {
    return this.step_;
  }

  /** Whether all updates are done. */
  get done(): boolean {
    return this.step_ >= this.parts.options.steps;
  }

  /** Goes on after `step` updates; parameters and the optimiser's arrays are restored in place by the caller. */
  restore(step: number): void {
    this.step_ = step;
  }

  /**
   * One update of the parameters.
   * @throws Error if loss or gradients are not finite; the parameters are then as they were.
   */
  async update(): Promise<PredictorStep> {
    const { recording, options } = this.parts;
    const { batchSize, steps, schedule, clipNorm } = options;
    const sequences = this.batches.at(this.step_);
    const longest = Math.max(...sequences.map((sequence) => recording.lengthOf(sequence)));
    const { length, program } = await this.programs.for(longest);
    const tokens = tokenFeeds(
      sequences.map((sequence) => recording.tokensOf(sequence)),
      batchSize,
      length,
    );
    const truncation = truncationOf(options);
    const teacher = teacherFeeds(recording, sequences, { batchSize, length, truncation });
    program.bindKnown([...Object.entries(tokens), ...Object.entries(teacher)]);
    const results = await program.run();
    const loss = Number(results['loss'][0]);
    const gradientNorm = Math.sqrt(await this.norm.of(this.gradients.data));
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm))
      throw new Error(
        `step ${this.step_ + 1}: loss ${loss}, gradient norm ${gradientNorm}: training has diverged; lower the learning rate`,
      );
    const learningRate = learningRateAt(this.step_, steps, schedule);
    await this.optimizer.update({
      update: this.step_ + 1,
      learningRate,
      gradientScale: clipNorm === null || gradientNorm <= clipNorm ? 1 : clipNorm / (gradientNorm + 1e-6),
    });
    this.step_++;
    return {
      step: this.step_,
      loss,
      hitRate: Number(results['hitRate'][0]),
      learningRate,
      gradientNorm,
      positions: sequences.reduce((sum, sequence) => sum + recording.lengthOf(sequence), 0),
    };
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    await this.programs.release();
    await this.optimizer.release();
    await this.norm.release();
  }
}

function truncationOf({ loss }: PredictorTrainOptions): number {
  return loss.kind === 'crossEntropy' ? 1 : loss.truncation;
}

/** Loss and gradients over batches of one length. */
function traceStep(
  { recording, predictor, embeddings, options }: PredictorTrainerParts,
  network: RoutingPredictor,
  length: number,
): { outputs: Record<string, Tensor>; names: readonly string[] } {
  const { batchSize, loss: form } = options;
  const size = [batchSize, length];
  const { embeddingSize } = predictor;
  const table = input(embeddingName, 'float32', [embeddings.length / embeddingSize, embeddingSize]);
  const ids = input('ids', 'int32', size);
  const mask = cast(input('mask', 'bool', size), 'float32');
  const logits = network.forward(gather(table, ids), mask);
  const count = batchSize * length;
  const counted = reshape(mask, [count]);
  const average = (values: readonly Tensor[]): Tensor =>
    divide(
      values.reduce((sum, value) => add(sum, value)),
      values.length,
    );
  const first = logits.map((_, l) => input(`first.${l}`, 'int32', [count]));
  const loss = average(
    logits.map((scores, l) => {
      const width = Math.min(truncationOf(options), recording.layers[l].candidates);
      const teacher = {
        first: first[l],
        candidates: input(`candidates.${l}`, 'int32', [count, width]),
        shares: input(`shares.${l}`, 'float32', [count, width]),
      };
      return predictorLoss(scores, teacher, counted, form);
    }),
  );
  const hitRate = average(
    logits.map((scores, l) =>
      maskedMean(cast(equal(argMax(scores), cast(first[l], 'int64')), 'float32'), counted),
    ),
  );
  const parameters = network.parameters();
  const names = [...parameters.keys()];
  const derived = differentiate(
    loss,
    names.map((name) => parameters.get(name)!.tensor),
  );
  const outputs: Record<string, Tensor> = { loss, hitRate };
  names.forEach((name, i) => (outputs[`gradient.${name}`] = derived[i]));
  return { outputs, names };
}
