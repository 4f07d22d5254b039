/**
 * Language modelling: every token is predicted from those before it.
 * @module
 */
import { input, reshape } from '../../graph/index.js';
import { memoryInputs, memoryOutputs, type LanguageModel } from '../../models/index.js';
import type { AnyBatch, Batch, BatchShape } from '../../data/index.js';
import type { TraceContext } from '../../nn/index.js';
import type { Buffers } from '../../runtime/index.js';
import type { Objective, TracedObjective } from '../objective.js';
import { SegmentBuffers } from '../segment-buffers.js';
import { joinLosses, maskInput } from './parts.js';

/** The objective of language models. */
export function languageModelling(model: LanguageModel): Objective {
  return {
    trace: (context, { shape, padded, dtype }) => traceObjective(model, shape, context, padded, dtype),
    feeds: (batch) => batchFeeds(requireWindows(batch)),
    memory: (batchSize, training) => SegmentBuffers.create(model, batchSize, memoryLength(model, training)),
    requireContinuation: (batches, what) => requireContinuation(model, batches, what),
  };
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
  const { logits, memory, ...report } = model.forward(
    // An input that no layer asks for is no part of the program.
    {
      tokens,
      languages: input('languages', 'int32', size),
      memory: memoryInputs(model.options, shape.batchSize, length, dtype),
      ...(padded ? { mask: maskInput('mask', size, dtype) } : {}),
    },
    context,
  );
  return {
    ...report,
    ...joinLosses(logits, targets, report.losses),
    memory: memory ? SegmentBuffers.outputs(memoryOutputs(memory)) : {},
  };
}

/** Tokens before a segment that a model remembers; 0 for models without a memory. */
export function memoryLength({ memoryLengths }: LanguageModel, training: boolean): number {
  return memoryLengths?.[training ? 'training' : 'evaluation'] ?? 0;
}

function requireContinuation(
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

function requireWindows(batch: AnyBatch): Batch {
  if ('tokens' in batch) return batch;
  throw new RangeError('a language model is trained on windows of text, not on pairs or labelled rows');
}
