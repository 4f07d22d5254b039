/**
 * What a model is trained for: one implementation a kind of model, in `objectives/`.
 * @module
 */
import type { AnyBatch, BatchShape } from '../data/index.js';
import type { Tensor } from '../graph/index.js';
import type { ModelReport } from '../models/index.js';
import type { TraceContext } from '../nn/index.js';
import type { Buffers } from '../runtime/index.js';
import type { SegmentBuffers } from './segment-buffers.js';

/** A traced objective. */
export interface TracedObjective extends ModelReport {
  /** What is minimised: task loss plus weighted auxiliary losses. */
  readonly loss: Tensor;
  /** Mean negative log-likelihood of the counted targets, nats per target. */
  readonly taskLoss: Tensor;
  /** The same per target, 0 where it is ignored: `[targets]`. */
  readonly tokenLoss: Tensor;
  /** `[targets, classes]` */
  readonly logits: Tensor;
  /** Float `[targets]`: 1 where something is predicted, 0 elsewhere. */
  readonly counted: Tensor;
  /** Int32 `[targets]`: what the model holds to be most likely, where the evaluation asks for it. */
  readonly predictions?: Tensor;
  /** What {@link SegmentBuffers} take from one segment to the next; empty without a memory. */
  readonly memory: Readonly<Record<string, Tensor>>;
}

/** Settings of {@link Objective.trace}. */
export interface ObjectiveTrace {
  readonly shape: BatchShape;
  /** Whether batches may contain padding; without it no mask is computed. */
  readonly padded: boolean;
  readonly dtype?: 'float32' | 'float64';
}

/** Joins one model to the batches that it is trained and measured on. */
export interface Objective {
  /** Classes that are predicted; undefined where tokens are. */
  readonly numClasses?: number;
  /** Traces model and loss over one batch. */
  trace(context: TraceContext, settings: ObjectiveTrace): TracedObjective;
  /**
   * A batch as the feeds of the trace.
   * @throws RangeError if the batch is not of the kind that the model reads.
   */
  feeds(batch: AnyBatch): Readonly<Record<string, Buffers[string]>>;
  /** What layers remember from one batch to the next; undefined where there is nothing. */
  memory(batchSize: number, training: boolean): SegmentBuffers | undefined;
  /**
   * Refuses batches that do not go on where those before ended, for models whose memory holds what came before.
   * @throws RangeError saying what the data must be.
   */
  requireContinuation(batches: { readonly continues?: boolean }, what: string): void;
}
