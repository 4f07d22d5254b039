/**
 * What is told of a text, from what a pass computed of it.
 * @module
 */
import type { Classification, TextVector } from '../engine-client.js';
import type { TextResult } from './texts-job.js';

/** The most probable class, and the softmax of all scores. */
export function classificationOf({ numbers, tokens, routing }: TextResult): Classification {
  const most = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Array.from(numbers, (score) => Math.exp(score - most));
  const total = weights.reduce((a, b) => a + b, 0);
  return {
    label: numbers.indexOf(most),
    probabilities: weights.map((weight) => weight / total),
    tokens,
    ...(routing && { routing }),
  };
}

/** The vector at length 1. */
export function vectorOf({ numbers, tokens, routing }: TextResult): TextVector {
  const length = Math.hypot(...numbers) || 1;
  return { vector: Array.from(numbers, (number) => number / length), tokens, ...(routing && { routing }) };
}
