/**
 * Corrupted copies of a text, and which tokens of both say the same thing at the same place.
 * @module
 */
import type { Tokenizer } from '../data/index.js';
import { RandomStream, streamKey } from '../nn/index.js';

/** A place where a text was changed, in UTF-8 bytes. */
export interface Edit {
  /** First byte in the clean text. */
  readonly start: number;
  /** Bytes of the clean text that were replaced. */
  readonly removed: number;
  /** Bytes of the corrupted text that stand there. */
  readonly added: number;
}

/** A corrupted text. */
export interface CorruptedText {
  readonly text: string;
  /** In order of their place. */
  readonly edits: readonly Edit[];
}

/** Ways to corrupt a word. */
export const corruptions = {
  /** The whole word becomes a rare one: `AAA`, as in the adaptive clustering paper's word swap. */
  wordSwap: (): string => 'AAA',
  /** Two neighbouring characters change places. */
  characterSwap: (word: string, random: RandomStream): string => {
    const characters = Array.from(word);
    if (characters.length < 2) return word;
    const at = random.integer(characters.length - 1);
    [characters[at], characters[at + 1]] = [characters[at + 1], characters[at]];
    return characters.join('');
  },
} as const;

/** Name of a way to corrupt. */
export type CorruptionKind = keyof typeof corruptions;

/**
 * Corrupts each word (a run without white space) with a probability of `rate`.
 * @param seed the same seed corrupts the same words
 */
export function corruptText(text: string, kind: CorruptionKind, rate: number, seed: number): CorruptedText {
  const random = new RandomStream(streamKey(seed, 'corruption', kind));
  const edits: Edit[] = [];
  let at = 0;
  const parts = (text.match(/\s+|\S+/gu) ?? []).map((part) => {
    const start = at;
    const removed = Buffer.byteLength(part);
    at += removed;
    if (/^\s/u.test(part) || random.uniform() >= rate) return part;
    const changed = corruptions[kind](part, random);
    if (changed !== part) edits.push({ start, removed, added: Buffer.byteLength(changed) });
    return changed;
  });
  return { text: parts.join(''), edits };
}

/** A token of the clean text and its twin in the corrupted one. */
export interface MatchedToken {
  readonly clean: number;
  readonly corrupted: number;
  /** Edits that stand before the token. */
  readonly editsBefore: number;
}

/**
 * Pairs tokens outside the edits that cover the same bytes and have the same id: positions move with the edits, and
 * tokens that a tokenizer cuts differently next to an edit have no twin.
 */
export function matchTokens(
  tokenizer: Pick<Tokenizer, 'byteLength'>,
  clean: ArrayLike<number>,
  corrupted: ArrayLike<number>,
  edits: readonly Edit[],
): MatchedToken[] {
  const twinAt = new Map(offsetsOf(tokenizer, corrupted).map(({ start, index }) => [start, index]));
  const matched: MatchedToken[] = [];
  let next = 0;
  let shift = 0;
  for (const { start, end, index } of offsetsOf(tokenizer, clean)) {
    while (next < edits.length && edits[next].start + edits[next].removed <= start) {
      shift += edits[next].added - edits[next].removed;
      next++;
    }
    if (next < edits.length && end > edits[next].start) continue;
    const twin = twinAt.get(start + shift);
    if (twin !== undefined && corrupted[twin] === clean[index]) {
      matched.push({ clean: index, corrupted: twin, editsBefore: next });
    }
  }
  return matched;
}

function offsetsOf(
  tokenizer: Pick<Tokenizer, 'byteLength'>,
  ids: ArrayLike<number>,
): { start: number; end: number; index: number }[] {
  let at = 0;
  return Array.from(ids, (id, index) => {
    const start = at;
    at += tokenizer.byteLength([id]);
    return { start, end: at, index };
  }).filter(({ start, end }) => end > start);
}
