/**
 * The language-modelling objective: a model traced over one batch shape, with everything a trainer wants to know.
 * @module
 */
import { add, cast, greaterEqual, input, maximum, multiply, reshape, type Tensor } from '../graph/index.js';
import { totalAuxiliaryLoss, type LanguageModel, type LanguageModelOutput } from '../models/index.js';
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
  const size = [shape.batchSize, shape.contextLength];
  const count = shape.batchSize * shape.contextLength;
  const tokens = input('tokens', 'int32', size);
  const targets = reshape(input('targets', 'int32', size), [count]);
  const { logits, records, losses, updates } = model.forward(
    // An input that no layer asks for is no part of the program.
    {
      tokens,
      languages: input('languages', 'int32', size),
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
  };
}

/** A batch as the feeds of a traced objective. */
export function batchFeeds({ tokens, targets, mask, languages }: Batch): Record<string, Buffers[string]> {
  return { tokens, targets, mask, ...(languages ? { languages } : {}) };
}
