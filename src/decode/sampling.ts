/**
 * Chooses the next token from its scores.
 * @module
 */

/** Settings of {@link sample}. */
export interface SamplingOptions {
  /** 0 always takes the most probable token; 1 samples the model's own distribution. */
  readonly temperature: number;
  /** Keep only this many most probable tokens; all when 0. */
  readonly topK: number;
  /** Keep the fewest most probable tokens that together reach this probability; all when 1. */
  readonly topP: number;
}

/**
 * Draws one token.
 *
 * @param logits scores of all tokens
 * @param uniform a random number in [0, 1)
 * @returns its id. Equal scores are ranked by id, so temperature 0 is deterministic.
 * @throws RangeError if an option is out of its range.
 */
export function sample(logits: Float32Array, options: SamplingOptions, uniform: number): number {
  const { temperature, topK, topP } = options;
  if (!(temperature >= 0)) throw new RangeError(`temperature ${temperature} must be 0 or more`);
  if (!(topK >= 0)) throw new RangeError(`topK ${topK} must be 0 or more`);
  if (!(topP > 0 && topP <= 1)) throw new RangeError(`topP ${topP} must be in (0, 1]`);
  const ranked = Array.from(logits, (score, id) => ({ id, score })).sort(
    (a, b) => b.score - a.score || a.id - b.id,
  );
  if (temperature === 0) return ranked[0].id;
  const kept = topK > 0 ? ranked.slice(0, topK) : ranked;
  const weights = kept.map(({ score }) => Math.exp((score - kept[0].score) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  let nucleus = 0;
  let size = 0;
  while (size < weights.length && nucleus < topP * total) nucleus += weights[size++];
  let rest = uniform * nucleus;
  for (let i = 0; i < size; i++) {
    rest -= weights[i];
    if (rest < 0) return kept[i].id;
  }
  return kept[size - 1].id;
}
