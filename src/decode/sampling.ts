/**
 * Chooses the next token from its scores.
 * @module
 */
import { rank } from './rank.js';

/** Settings of {@link sample}. */
export interface SamplingOptions {
  /** 0 always takes the most probable token; 1 samples the model's own distribution. */
  readonly temperature: number;
  /** Keep only this many most probable tokens; all when 0. */
  readonly topK: number;
  /** Keep the fewest most probable tokens that together reach this probability; all when 1. */
  readonly topP: number;
  /** Keep only tokens at least this share as probable as the most probable one (arXiv 2407.01082); all when 0 or absent. */
  readonly minP?: number;
}

/** Most probable tokens that are ranked first. */
const FIRST = 256;

/** @throws RangeError if an option is out of its range; the message names it. */
export function checkSampling({ temperature, topK, topP, minP = 0 }: SamplingOptions): void {
  if (!(temperature >= 0)) throw new RangeError(`temperature ${temperature} must be 0 or more`);
  if (!(topK >= 0)) throw new RangeError(`topK ${topK} must be 0 or more`);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP ${topP} must be in (0, 1]`);
  if (!(minP >= 0 && minP <= 1)) throw new RangeError(`minP ${minP} must be in [0, 1]`);
}

/**
 * Draws one token: divides by the temperature, then keeps by topK, by topP and by minP, in this order.
 *
 * @param logits scores of all tokens
 * @param uniform a random number in [0, 1)
 * @returns its id. Equal scores are ranked by id, so temperature 0 is deterministic.
 * @throws RangeError if an option is out of its range, a score is not a number, or the highest is infinite.
 */
export function sample(logits: Float32Array, options: SamplingOptions, uniform: number): number {
  checkSampling(options);
  const { temperature, topK, topP, minP = 0 } = options;
  if (temperature === 0) return best(logits);
  const most = logits[best(logits)];
  const weigh = (id: number): number => Math.exp((logits[id] - most) / temperature);
  const size = topK > 0 ? Math.min(topK, logits.length) : logits.length;
  // Few tokens have nearly all of the probability: the others are ranked only if they are needed.
  let ranked = rank(logits, Math.min(size, topK > 0 ? size : FIRST));
  const at = (place: number): number => {
    if (place >= ranked.length) ranked = rank(logits, size);
    return ranked[place];
  };
  let total = 0;
  if (topK > 0) for (const id of ranked) total += weigh(id);
  else for (let id = 0; id < size; id++) total += weigh(id);
  const keepsAll = topP === 1 && minP === 0;
  let nucleus = keepsAll ? total : 0;
  let kept = keepsAll ? size : 0;
  // The most probable token has the weight 1.
  while (kept < size && nucleus < topP * total) {
    const weight = weigh(at(kept));
    if (weight < minP) break;
    nucleus += weight;
    kept++;
  }
  let rest = uniform * nucleus;
  for (let place = 0; place < kept; place++) {
    rest -= weigh(at(place));
    if (rest < 0) return at(place);
  }
  return at(kept - 1);
}

/** The highest score's id, the lowest of equals. */
function best(logits: Float32Array): number {
  let winner = 0;
  for (let id = 0; id < logits.length; id++) {
    if (Number.isNaN(logits[id])) throw new RangeError(`the score of token ${id} is not a number`);
    if (logits[id] > logits[winner]) winner = id;
  }
  // Nothing is a share of ∞, and where all are −∞ none is better than another.
  if (!Number.isFinite(logits[winner]))
    throw new RangeError(`the highest score, of token ${winner}, is ${logits[winner]}`);
  return winner;
}

/**
 * Makes tokens that have been said less probable: divides their scores by `penalty`, or multiplies them where they are
 * negative (CTRL, arXiv 1909.05858 §4.1; as in transformers).
 *
 * @param logits changed in place
 * @param said ids, each penalised once however often it was said
 * @param penalty 1 changes nothing
 */
export function penalizeRepetition(logits: Float32Array, said: ReadonlySet<number>, penalty: number): void {
  if (!(penalty > 0)) throw new RangeError(`repetitionPenalty ${penalty} must be more than 0`);
  for (const id of said) {
    if (id < logits.length) logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
  }
}

/** Natural logarithm of the probability of every token by the model itself: `log softmax(logits)`. */
export function logProbabilities(logits: Float32Array): Float64Array {
  let most = -Infinity;
  for (const score of logits) most = Math.max(most, score);
  let sum = 0;
  for (const score of logits) sum += Math.exp(score - most);
  return Float64Array.from(logits, (score) => score - most - Math.log(sum));
}
