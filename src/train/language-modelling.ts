/**
 * The language-modelling objective: a model traced over one batch shape, with everything a trainer wants to know.
 * @module
 */
import { add, cast, greaterEqual, input, maximum, multiply, reshape, type Tensor } from '../graph/index.js';
import {
  memoryInputs,
  memoryOutputs,
  totalAuxiliaryLoss,
  type LanguageModel,
  type LanguageModelOutput,
} from '../models/index.js';
import { SegmentBuffers } from './segment-buffers.js';
import { crossEntropy, maskedMean, type TraceContext } from '../nn/index.js';
import type { Batch, BatchShape } from '../data/index.js';
import type { Buffers } from '../runtime/index.js';

/** A traced objective. */
export interface TracedObjective {
  /** What is minimised: task loss plus weighted auxiliary losses. */
  readonly loss: Tensor;
  /** Mean negative log-likelihood of the counted targets, nats per token. */
  readonly taskLoss: Tensor;
  /** The same per token, 0 where a target is ignored: `[batch · time]`. */
  readonly tokenLoss: Tensor;
  readonly losses: LanguageModelOutput['losses'];
  readonly records: LanguageModelOutput['records'];
  readonly updates: LanguageModelOutput['updates'];
  /** What {@link SegmentBuffers} take from one segment to the next; empty without a memory. */
  readonly memory: Readonly<Record<string, Tensor>>;
}

/**
 * Traces model and loss over `[batchSize, contextLength]` tokens.
 * @param padded whether batches may contain padding; without it no mask is computed.
 */
export function traceObjective(
  model: LanguageModel,
  shape: BatchShape,
  context: TraceContext,
  padded: boolean,
  dtype: 'float32' | 'float64' = 'float32',
): TracedObjective {
  const length = memoryLength(model, context.training);
  const size = [shape.batchSize, shape.contextLength];
  const count = shape.batchSize * shape.contextLength;
  const tokens = input('tokens', 'int32', size);
  const targets = reshape(input('targets', 'int32', size), [count]);
  const { logits, records, losses, updates, memory } = model.forward(
    // An input that no layer asks for is no part of the program.
    {
      tokens,
      languages: input('languages', 'int32', size),
      memory: memoryInputs(model.options, shape.batchSize, length, dtype),
      ...(padded ? { mask: cast(input('mask', 'bool', size), dtype) } : {}),
    },
    context,
  );
  const counted = cast(greaterEqual(targets, 0), dtype);
  const perToken = crossEntropy(logits, maximum(targets, 0));
  const taskLoss = maskedMean(perToken, counted);
  const auxiliary = totalAuxiliaryLoss(losses);
  return {
    loss: auxiliary ? add(taskLoss, auxiliary) : taskLoss,
    taskLoss,
    tokenLoss: multiply(perToken, counted),
    losses,
    records,
    updates,
    memory: memory ? SegmentBuffers.outputs(memoryOutputs(memory)) : {},
  };
}

/** Tokens before a segment that a model remembers; 0 for models without a memory. */
export function memoryLength({ memoryLengths }: LanguageModel, training: boolean): number {
  return memoryLengths?.[training ? 'training' : 'evaluation'] ?? 0;
}

/**
 * Refuses batches that do not go on where those before ended, for models whose memory holds what came before.
 * @throws RangeError
 */
export function requireContinuation(
  model: LanguageModel,
  { continues = false }: { readonly continues?: boolean },
  what: string,
): void {
  if (model.memoryLengths === undefined || continues) return;
  throw new RangeError(
    `segment recurrence needs data.order stream: ${what} of other orders do not go on where those before ended`,
  );
}

/** How a text is read to measure a model: as a stream where it has a memory of what came before. */
export function evaluationOrder({
  memoryLengths,
}: Pick<LanguageModel, 'memoryLengths'>): 'sequential' | 'stream' {
  return memoryLengths === undefined ? 'sequential' : 'stream';
}

/** A batch as the feeds of a traced objective. */
export function batchFeeds({ tokens, targets, mask, languages }: Batch): Record<string, Buffers[string]> {
  return { tokens, targets, mask, ...(languages ? { languages } : {}) };
}
