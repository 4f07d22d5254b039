/**
 * Classification: a text is given one of several classes.
 * @module
 */
import { argMax, cast, input } from '../../graph/index.js';
import type { Classifier } from '../../models/index.js';
import type { Objective } from '../objective.js';
import { joinLosses, maskInput } from './parts.js';

/** The objective of classifiers. */
export function classification(model: Classifier): Objective {
  return {
    numClasses: model.options.numLabels,
    trace(context, { shape: { batchSize, contextLength }, padded, dtype = 'float32' }) {
      const size = [batchSize, contextLength];
      const { logits, ...report } = model.forward(
        {
          source: input('source', 'int32', size),
          ...(padded ? { sourceMask: maskInput('sourceMask', size, dtype) } : {}),
        },
        context,
      );
      return {
        ...report,
        ...joinLosses(logits, input('targets', 'int32', [batchSize]), report.losses),
        predictions: cast(argMax(logits), 'int32'),
        memory: {},
      };
    },
    feeds(batch) {
      if ('tokens' in batch || 'target' in batch) {
        throw new RangeError('a classifier is trained on labelled rows, not on text to be predicted');
      }
      const { source, sourceMask, targets } = batch;
      return { source, sourceMask, targets };
    },
    memory: () => undefined,
    requireContinuation: () => undefined,
  };
}
