/**
 * Beam search: the most probable texts instead of drawn ones (Graves, arXiv 1211.3711 §3; length penalty as in
 * transformers).
 * @module
 */
import type { GrowingTexts, TextWriter } from './growing-texts.js';
import { rank } from './rank.js';
import { logProbabilities } from './sampling.js';

/** Settings of beam search. */
export interface BeamOptions {
  /** Texts that are followed at a time. 1 is greedy. */
  readonly beams: number;
  /** Tokens to add at most. */
  readonly maxTokens: number;
  /**
   * A text's score is its log-probability divided by `length ^ lengthPenalty`, its stop token counted; 1 when absent.
   * 0 compares log-probabilities as they are, which prefers short texts; above 1 longer ones are preferred.
   */
  readonly lengthPenalty?: number;
  /** Any of these ends a text, and is no part of it. */
  readonly stopTokens?: readonly number[];
  /** Only ids below this are considered. */
  readonly vocabSize?: number;
  /** Ends the search between two tokens by throwing the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A text that was found. */
export interface Beam {
  /** Added tokens, without a stop token. */
  readonly ids: readonly number[];
  /** Sum over its tokens, the stop token included. */
  readonly logProbability: number;
  /** Log-probability by length: what beams are compared by. */
  readonly score: number;
}

interface Alive {
  readonly ids: readonly number[];
  readonly sum: number;
}

interface Candidate {
  readonly beam: number;
  readonly id: number;
  readonly sum: number;
}

/**
 * Follows the `beams` most probable texts token by token. The search ends when `beams` finished texts are better than
 * anything that those still growing could reach at their present length.
 *
 * @param prompt at least one id
 * @returns at most `beams` texts, best first
 * @throws RangeError if an option is out of its range or the prompt is empty.
 */
export async function beamSearch(
  writer: TextWriter,
  prompt: ArrayLike<number>,
  options: BeamOptions,
): Promise<readonly Beam[]> {
  const { beams, maxTokens, lengthPenalty = 1, stopTokens = [], signal } = options;
  if (!(Number.isInteger(beams) && beams >= 1)) throw new RangeError(`beams ${beams} must be 1 or more`);
  if (!(maxTokens >= 1)) throw new RangeError(`maxTokens ${maxTokens} must be 1 or more`);
  if (!Number.isFinite(lengthPenalty)) throw new RangeError(`lengthPenalty ${lengthPenalty} is not a number`);
  signal?.throwIfAborted();
  const texts = await writer.begin(new Array<ArrayLike<number>>(beams).fill(prompt));
  const score = (sum: number, length: number): number => sum / length ** lengthPenalty;
  const finished: Beam[] = [];
  const finish = (ids: readonly number[], sum: number, length: number): void => {
    finished.push({ ids, logProbability: sum, score: score(sum, length) });
    finished.sort((a, b) => b.score - a.score).splice(beams);
  };

  // All beams are the same text at first: one of them stands for all.
  let alive: readonly Alive[] = [{ ids: [], sum: 0 }];
  for (let length = 1; ; length++) {
    const growing: (Candidate & Alive)[] = [];
    for (const [place, candidate] of best(texts, alive, options).entries()) {
      const { ids } = alive[candidate.beam];
      if (!stopTokens.includes(candidate.id)) growing.push({ ...candidate, ids: [...ids, candidate.id] });
      // An end that is not among the best is no better than the beams that push it out.
      else if (place < beams) finish(ids, candidate.sum, length);
      if (growing.length === beams) break;
    }
    const room = texts.maxLength - texts.tokens[0].length;
    if (growing.length === 0) break;
    if (finished.length === beams && finished[beams - 1].score >= score(growing[0].sum, length)) break;
    if (length >= maxTokens || room < 1) {
      for (const { ids, sum } of growing) finish(ids, sum, length);
      break;
    }
    signal?.throwIfAborted();
    texts.select(Array.from({ length: beams }, (_, i) => (growing[i] ?? growing[0]).beam));
    await texts.append(Array.from({ length: beams }, (_, i) => growing.at(i)?.id));
    alive = growing;
  }
  return finished;
}

/** The 2 · `beams` most probable continuations of all beams: enough, if every beam's best is its end. */
function best(
  { scores }: GrowingTexts,
  alive: readonly Alive[],
  { beams, vocabSize, stopTokens = [] }: BeamOptions,
): Candidate[] {
  const count = beams * (1 + Math.max(1, stopTokens.length));
  const candidates = alive.flatMap(({ sum }, beam) => {
    const logits = scores[beam].subarray(0, vocabSize);
    const logs = logProbabilities(logits);
    return Array.from(rank(logits).subarray(0, count), (id) => ({ beam, id, sum: sum + logs[id] }));
  });
  return candidates.sort((a, b) => b.sum - a.sum || a.beam - b.beam || a.id - b.id).slice(0, count);
}
