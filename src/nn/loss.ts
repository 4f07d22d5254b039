/**
 * The task loss of language models.
 * @module
 */
import {
  cast,
  customGradient,
  divide,
  gatherElements,
  logSoftmax,
  maximum,
  multiply,
  negate,
  oneHot,
  reshape,
  softmax,
  subtract,
  sum,
  type Tensor,
} from '../graph/index.js';

/**
 * Negative log-likelihood of each target in nats.
 *
 * @param logits `[tokens, vocabSize]`
 * @param targets int32 `[tokens]`, each 0 … vocabSize − 1
 * @returns `[tokens]`
 */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  const [tokens, vocabSize] = logits.shape;
  const column = reshape(targets, [tokens, 1]);
  const value = reshape(negate(gatherElements(logSoftmax(logits), column)), [tokens]);
  return customGradient(value, [logits], (gradient) => [
    multiply(
      subtract(softmax(logits), oneHot(targets, vocabSize as number, logits.dtype)),
      reshape(gradient, [tokens, 1]),
    ),
  ]);
}

/** Mean of `values` `[tokens]` where `mask` `[tokens]` is 1; 0 when nothing is. */
export function maskedMean(values: Tensor, mask: Tensor): Tensor {
  const weights = cast(mask, values.dtype);
  return divide(sum(multiply(values, weights)), maximum(sum(weights), 1));
}
