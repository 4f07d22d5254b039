/**
 * How probable a token was, beside the most probable ones.
 * @module
 */
import { logProbabilities } from '../../decode/index.js';
import type { Tokenizer } from '../../data/index.js';
import type { ScoredToken, TokenProbabilities } from '../engine-client.js';

/** What is told of a token that is less probable still, as OpenAI does: −∞ is no number in JSON. */
const LEAST = -9999;

/**
 * Probabilities by the model itself.
 * @param scores of all tokens
 * @param count of the most probable ones
 * @param before the token before it, if there is one
 * @throws RangeError if a score is not a number, or the highest is infinite.
 */
export function tokenProbabilities(
  tokenizer: Pick<Tokenizer, 'decode'>,
  scores: Float32Array,
  id: number,
  count: number,
  before: number | undefined,
): TokenProbabilities {
  const logs = logProbabilities(scores);
  // A score that is NaN or +∞ leaves no token a probability.
  if (Number.isNaN(logs[id])) throw new RangeError('a score is not a number, or the highest is infinite');
  const told = (token: number): ScoredToken =>
    describe(tokenizer, token, before, Math.max(logs[token], LEAST));
  return { ...told(id), top: largest(logs, count).map(told) };
}

/**
 * What a token spells after another one: many tokenizers leave out the space of a word at the beginning of what they are
 * given, so a token by itself would lose it.
 */
export function spelling(
  tokenizer: Pick<Tokenizer, 'decode'>,
  id: number,
  before: number | undefined,
): string {
  const alone = tokenizer.decode([id]);
  if (before === undefined) return alone;
  const known = tokenizer.decode([before]);
  const both = tokenizer.decode([before, id]);
  // Two parts of one character spell it together.
  return both.startsWith(known) ? both.slice(known.length) : alone;
}

function describe(
  tokenizer: Pick<Tokenizer, 'decode'>,
  id: number,
  before: number | undefined,
  logProbability: number,
): ScoredToken {
  const text = spelling(tokenizer, id, before);
  return { id, text, bytes: text.includes('\uFFFD') ? [] : [...Buffer.from(text)], logProbability };
}

/** Places of the largest numbers, falling; of equal ones the first. */
function largest(numbers: Float64Array, count: number): number[] {
  const places: number[] = [];
  for (let place = 0; place < numbers.length; place++) {
    if (places.length === count && (count === 0 || numbers[place] <= numbers[places[count - 1]])) continue;
    let at = places.length;
    while (at > 0 && numbers[places[at - 1]] < numbers[place]) at--;
    places.splice(at, 0, place);
    if (places.length > count) places.pop();
  }
  return places;
}
