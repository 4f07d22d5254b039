/**
 * Sequence to sequence (T5, machine translation): each token of a target is predicted from its source and the target's
 * tokens before it.
 * @module
 */
import { argMax, cast, input, reshape } from '../../graph/index.js';
import type { EncoderDecoder } from '../../models/index.js';
import type { Objective } from '../objective.js';
import { joinLosses, maskInput } from './parts.js';

/** The objective of encoder–decoders. */
export function sequenceToSequence(model: EncoderDecoder): Objective {
  return {
    trace(context, { shape, padded, dtype = 'float32' }) {
      const { batchSize, contextLength, targetLength = contextLength } = shape;
      const sourceSize = [batchSize, contextLength];
      const targetSize = [batchSize, targetLength];
      const targets = reshape(input('targets', 'int32', targetSize), [batchSize * targetLength]);
      const { logits, ...report } = model.forward(
        {
          source: input('source', 'int32', sourceSize),
          target: input('target', 'int32', targetSize),
          ...(padded
            ? {
                sourceMask: maskInput('sourceMask', sourceSize, dtype),
                targetMask: maskInput('targetMask', targetSize, dtype),
              }
            : {}),
        },
        context,
      );
      return {
        ...report,
        ...joinLosses(logits, targets, report.losses),
        predictions: cast(argMax(logits), 'int32'),
        memory: {},
      };
    },
    feeds(batch) {
      if (!('target' in batch)) {
        throw new RangeError('an encoder–decoder is trained on pairs of source and target');
      }
      const { source, sourceMask, target, targetMask, targets } = batch;
      return { source, sourceMask, target, targetMask, targets };
    },
    memory: () => undefined,
    requireContinuation: () => undefined,
  };
}
