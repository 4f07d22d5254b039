/**
 * Measures a model on a validation set.
 * @module
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { AnyBatch, Batch, BatchSequence, BatchShape, Tokenizer } from '../data/index.js';
import type { Tensor } from '../graph/index.js';
import type { Model } from '../models/index.js';
import {
  bitsPerByte,
  classificationScores,
  perplexity,
  type ClassificationScores,
} from '../metrics/index.js';
import { evaluationContext } from '../nn/index.js';
import { compile, type Program, type RuntimeOptions } from '../runtime/index.js';
import type { Objective } from './objective.js';
import { objectiveOf } from './objectives/index.js';
import type { SegmentBuffers } from './segment-buffers.js';
import type { RoutedLayer } from './step-program.js';

/** Result of an evaluation. */
export interface EvaluationReport {
  /** Mean nats per predicted token; of a classifier, per example. */
  readonly loss: number;
  readonly perplexity: number;
  /** 0 for a classifier, which predicts no text. */
  readonly bitsPerByte: number;
  /** Predicted tokens; of a classifier, examples. */
  readonly tokens: number;
  /** Predicted UTF-8 bytes. */
  readonly bytes: number;
  /** Of an encoder–decoder: share of the targets that greedy generation would say token by token. */
  readonly exactMatch?: number;
  /** Of a classifier. */
  readonly classification?: ClassificationScores;
  /** `[numExperts]` per routed layer. */
  readonly loads: readonly number[][];
  /** Choices without a place, over all layers. */
  readonly dropped: number;
}

/** What one evaluated batch looked like, for callers that study routing. */
export interface EvaluatedBatch<Kind extends AnyBatch = Batch> {
  readonly batch: Kind;
  /** Nats per target, 0 where it is ignored: one for each of the batch's `targets`. */
  readonly tokenLoss: Float32Array;
  /** Int32 `[tokens, topK]` per routed layer, −1 for padding. */
  readonly experts: readonly Int32Array[];
}

/** A compiled forward pass. Weights are read from the buffers it was given, so it follows training. */
export class Evaluator<Kind extends Model = Model> {
  private constructor(
    private readonly program: Program,
    /** What is measured. */
    readonly model: Kind,
    private readonly objective: Objective,
    private readonly memory: SegmentBuffers | undefined,
    /** Layers that route, in the order of {@link EvaluationReport.loads}. */
    readonly routedLayers: readonly RoutedLayer[],
  ) {}

  /** @param weights every parameter of the model by name. */
  static async create<Kind extends Model>(
    model: Kind,
    weights: Iterable<readonly [string, Float32Array]>,
    shape: BatchShape,
    runtime: RuntimeOptions,
  ): Promise<Evaluator<Kind>> {
    const objective = objectiveOf(model);
    const traced = objective.trace(evaluationContext(), { shape, padded: true });
    const { tokenLoss, records, memory, predictions } = traced;
    const outputs: Record<string, Tensor> = {
      tokenLoss,
      ...memory,
      ...(predictions ? { predictions } : {}),
    };
    for (const { name, experts, load, dropped } of records) {
      outputs[`experts.${name}`] = experts;
      outputs[`load.${name}`] = load;
      outputs[`dropped.${name}`] = dropped;
    }
    const program = (await compile(outputs, runtime)).bindKnown(weights);
    return new Evaluator(program, model, objective, objective.memory(shape.batchSize, false), records);
  }

  /**
   * Runs over a validation sequence.
   * @param maxBatches stop after this many batches; all when null.
   * @param observe called with every batch; its arrays are reused by the next.
   * @throws RangeError if there is nothing to predict, or the model has a memory and the sequence is no stream.
   */
  async evaluate<Read extends AnyBatch>(
    sequence: BatchSequence<Read>,
    tokenizer: Tokenizer,
    maxBatches: number | null = null,
    observe?: (evaluated: EvaluatedBatch<Read>) => void,
  ): Promise<EvaluationReport> {
    this.objective.requireContinuation(sequence, 'validation batches');
    this.memory?.reset();
    let tokens = 0;
    let bytes = 0;
    const loads = this.routedLayers.map(({ numExperts }) => new Array<number>(numExperts).fill(0));
    const answers = new Answers(this.objective.numClasses);
    let total = 0;
    let dropped = 0;
    let batches = 0;
    for (const batch of sequence) {
      if (maxBatches !== null && batches++ >= maxBatches) break;
      // A second Ctrl-C must not wait for the end of a long evaluation.
      await nextTurn();
      this.program.bindKnown(Object.entries(this.objective.feeds(batch)));
      this.memory?.bind(this.program);
      const results = await this.program.run();
      this.memory?.advance();
      const tokenLoss = results['tokenLoss'] as Float32Array;
      for (const value of tokenLoss) total += value;
      const predicted = batch.targets.filter((target) => target >= 0);
      tokens += predicted.length;
      if (this.objective.numClasses === undefined) bytes += tokenizer.byteLength(predicted);
      answers.add(batch.targets, results['predictions'] as Int32Array | undefined, sequence.batchSize);
      this.routedLayers.forEach(({ name }, i) => {
        (results[`load.${name}`] as Int32Array).forEach((count, expert) => (loads[i][expert] += count));
        dropped += Number(results[`dropped.${name}`][0]);
      });
      observe?.({
        batch,
        tokenLoss,
        experts: this.routedLayers.map(({ name }) => results[`experts.${name}`] as Int32Array),
      });
    }
    if (tokens === 0) throw new RangeError('the validation set has no token to predict');
    const loss = total / tokens;
    return {
      loss,
      perplexity: perplexity(loss),
      bitsPerByte: bitsPerByte(total, bytes),
      tokens,
      bytes,
      ...answers.report(),
      loads,
      dropped,
    };
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}

/** Compares what a model holds to be most likely with what is right. */
class Answers {
  private readonly labels: number[] = [];
  private readonly predictions: number[] = [];
  private rows = 0;
  private exactRows = 0;

  /** @param numClasses of a classifier; undefined where tokens are predicted. */
  constructor(private readonly numClasses: number | undefined) {}

  add(targets: Int32Array, predictions: Int32Array | undefined, batchSize: number): void {
    if (!predictions) return;
    const length = targets.length / batchSize;
    for (let row = 0; row < batchSize; row++) {
      let [counted, right] = [0, 0];
      for (let i = row * length; i < (row + 1) * length; i++) {
        if (targets[i] < 0) continue;
        counted++;
        right += Number(predictions[i] === targets[i]);
        if (this.numClasses !== undefined) {
          this.labels.push(targets[i]);
          this.predictions.push(predictions[i]);
        }
      }
      if (counted === 0) continue;
      this.rows++;
      this.exactRows += Number(right === counted);
    }
  }

  report(): Pick<EvaluationReport, 'exactMatch' | 'classification'> {
    if (this.rows === 0) return {};
    if (this.numClasses === undefined) return { exactMatch: this.exactRows / this.rows };
    return { classification: classificationScores(this.labels, this.predictions, this.numClasses) };
  }
}
