/**
 * Span corruption (T5, Raffel et al. 2020, §3.1.4 and appendix; `random_spans_noise_mask` of its code): stretches of a
 * text are each replaced by a sentinel, and the target says what stood there.
 *
 * ```
 * text     Thank you for inviting me to your party last week
 * source   Thank you <X> me to your party <Y> week </s>
 * target   <X> for inviting <Y> last </s>
 * ```
 * @module
 */
import { streamKey, uniformAt } from '../../nn/random.js';

/** How much of a text is corrupted. */
export interface SpanCorruptionOptions {
  /** Share of the tokens that are taken out. T5: 0.15. */
  readonly noiseDensity: number;
  /** Mean tokens of a stretch that is taken out. T5: 3. */
  readonly meanSpanLength: number;
}

/** What corruption makes of a text of a certain length. The lengths are the same for every text of that length. */
export interface CorruptedLengths {
  readonly noiseTokens: number;
  readonly spans: number;
  /** Tokens of the source, with its sentinels and the end token. */
  readonly source: number;
  /** Tokens of the target, with its sentinels and the end token. */
  readonly target: number;
}

/** Lengths after the corruption of `length` tokens, at least 2. */
export function corruptedLengths(length: number, options: SpanCorruptionOptions): CorruptedLengths {
  const { noiseDensity, meanSpanLength } = options;
  const noiseTokens = Math.min(Math.max(roundHalfEven(length * noiseDensity), 1), length - 1);
  const kept = length - noiseTokens;
  // Every span follows at least one token that is kept.
  const spans = Math.min(Math.max(roundHalfEven(noiseTokens / meanSpanLength), 1), kept);
  return { noiseTokens, spans, source: kept + spans + 1, target: noiseTokens + spans + 1 };
}

/**
 * The longest text whose source fits: T5 cuts a corpus into windows of this length, so that no position is wasted.
 * @throws RangeError if even two tokens do not fit.
 */
export function windowLength(sourceLength: number, options: SpanCorruptionOptions): number {
  let length = 2;
  if (corruptedLengths(length, options).source > sourceLength) {
    throw new RangeError(
      `contextLength ${sourceLength} has no room for a corrupted text: a kept token, a sentinel and the end token need 3`,
    );
  }
  while (corruptedLengths(length + 1, options).source <= sourceLength) length++;
  return length;
}

/** Ids that corruption needs. */
export interface CorruptionTokens {
  /** Stand for the first stretch, the second, and so on. */
  readonly sentinels: readonly number[];
  /** Ends sources and targets. */
  readonly end: number;
}

/**
 * Corrupts one text. Kept and taken stretches alternate, beginning with a kept one; where they are cut is uniform over
 * all ways to cut, and a pure function of `key`.
 * @returns source and target, of the lengths that {@link corruptedLengths} tells.
 */
export function corruptSpans(
  tokens: ArrayLike<number>,
  key: number,
  { sentinels, end }: CorruptionTokens,
  options: SpanCorruptionOptions,
): { readonly source: Int32Array; readonly target: Int32Array } {
  const lengths = corruptedLengths(tokens.length, options);
  const { noiseTokens, spans } = lengths;
  const taken = randomParts(noiseTokens, spans, streamKey(key, 'taken'));
  const kept = randomParts(tokens.length - noiseTokens, spans, streamKey(key, 'kept'));
  const source = new Int32Array(lengths.source);
  const target = new Int32Array(lengths.target);
  let [from, s, t] = [0, 0, 0];
  for (let span = 0; span < spans; span++) {
    for (const to = from + kept[span]; from < to; from++) source[s++] = tokens[from];
    source[s++] = sentinels[span];
    target[t++] = sentinels[span];
    for (const to = from + taken[span]; from < to; from++) target[t++] = tokens[from];
  }
  source[s] = end;
  target[t] = end;
  return { source, target };
}

/** Cuts `total` into `count` parts of at least 1: every way to do so is equally likely. */
function randomParts(total: number, count: number, key: number): number[] {
  const parts: number[] = [];
  let begin = 0;
  for (let at = 1; at < total; at++) {
    // Selection sampling: each place is cut with the probability that is left over.
    const wanted = count - 1 - parts.length;
    if (uniformAt(key, at) * (total - at) >= wanted) continue;
    parts.push(at - begin);
    begin = at;
  }
  return [...parts, total - begin];
}

/** As Python and TensorFlow round, so that lengths are those of T5. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
