/**
 * From a word to ids: WordPiece, unigram, and byte-pair encoding over characters, as Hugging Face's Rust library
 * does them.
 * @module
 */
import { mergePairs, type MergeTable } from './merge-pairs.js';

/** Ids of one word, which is not empty. */
export type PieceModel = (word: string) => number[];

/** Vocabulary of a WordPiece model. */
export interface WordPieceVocabulary {
  readonly ids: ReadonlyMap<string, number>;
  readonly unknown: number;
  /** Before every piece but the first of a word: `##`. */
  readonly continuingPrefix: string;
  /** Longer words, in code points, are unknown. */
  readonly longestWord: number;
}

/**
 * WordPiece (BERT; Wu et al. 2016, arXiv 1609.08144): the longest piece that fits, from left to right; the whole word
 * is unknown where none fits.
 */
export function wordPiece({ ids, unknown, continuingPrefix, longestWord }: WordPieceVocabulary): PieceModel {
  let longest = 0;
  for (const piece of ids.keys()) longest = Math.max(longest, piece.length);
  return (word) => {
    if (word.length > longestWord && [...word].length > longestWord) return [unknown];
    const out: number[] = [];
    for (let start = 0; start < word.length;) {
      let end = Math.min(word.length, start + longest);
      let id: number | undefined;
      for (; end > start; end--) {
        const part = word.slice(start, end);
        id = ids.get(start === 0 ? part : continuingPrefix + part);
        if (id !== undefined) break;
      }
      if (id === undefined) return [unknown];
      out.push(id);
      start = end;
    }
    return out;
  };
}

/** A node of the tree of pieces. */
interface TrieNode {
  readonly children: Map<number, TrieNode>;
  id?: number;
}

/** What stands for text outside the vocabulary. */
export interface Fallback {
  /** One id for a run of characters outside the vocabulary. */
  readonly unknown: number | undefined;
  /** Whether neighbours outside the vocabulary share one unknown id. */
  readonly fuses: boolean;
  /** Ids of the 256 bytes, for vocabularies that spell unknown characters so. */
  readonly bytes: readonly number[] | undefined;
}

const encoder = new TextEncoder();

/** Appends what stands for a character outside the vocabulary. */
function pushUnknown(out: number[], character: string, { unknown, fuses, bytes }: Fallback): void {
  if (bytes) for (const byte of encoder.encode(character)) out.push(bytes[byte]);
  else if (unknown === undefined)
    throw new RangeError(`the vocabulary has no token for ${JSON.stringify(character)}`);
  else if (!fuses || out.at(-1) !== unknown) out.push(unknown);
}

/** Points that an unknown character costs below the least probable piece, in both implementations. */
const UNKNOWN_PENALTY = 10;

/**
 * Unigram (Kudo 2018, arXiv 1804.10959): the segmentation with the largest sum of log-probabilities, by Viterbi; the
 * sum is kept in float64 as in the Rust library (SentencePiece itself uses float32).
 *
 * @param pieces with their scores, in the order of their ids.
 */
export function unigram(
  pieces: readonly (readonly [piece: string, score: number])[],
  fallback: Fallback,
): PieceModel {
  const root: TrieNode = { children: new Map() };
  let lowest = Infinity;
  pieces.forEach(([piece, score], id) => {
    lowest = Math.min(lowest, score);
    let node = root;
    for (let at = 0; at < piece.length; at++) {
      const unit = piece.charCodeAt(at);
      let child = node.children.get(unit);
      if (!child) node.children.set(unit, (child = { children: new Map() }));
      node = child;
    }
    node.id ??= id;
  });
  const unknownScore = lowest - UNKNOWN_PENALTY;

  return (word) => {
    const best = new Float64Array(word.length + 1).fill(-Infinity);
    const from = new Int32Array(word.length + 1);
    const idAt = new Int32Array(word.length + 1);
    best[0] = 0;
    const offer = (start: number, end: number, id: number, score: number): void => {
      if (best[start] + score <= best[end]) return;
      best[end] = best[start] + score;
      from[end] = start;
      idAt[end] = id;
    };
    for (let start = 0; start < word.length;) {
      const width = word.codePointAt(start)! > 0xffff ? 2 : 1;
      let node: TrieNode | undefined = root;
      let isKnown = false;
      for (let end = start; end < word.length;) {
        node = node.children.get(word.charCodeAt(end++));
        if (!node) break;
        if (node.id === undefined) continue;
        isKnown ||= end === start + width;
        offer(start, end, node.id, pieces[node.id][1]);
      }
      if (!isKnown) offer(start, start + width, -1, unknownScore);
      start += width;
    }
    const spans: [start: number, end: number, id: number][] = [];
    for (let end = word.length; end > 0; end = from[end]) spans.push([from[end], end, idAt[end]]);
    const out: number[] = [];
    for (const [start, end, id] of spans.reverse()) {
      if (id >= 0 && id !== fallback.unknown) out.push(id);
      else pushUnknown(out, word.slice(start, end), fallback);
    }
    return out;
  };
}

/** Byte-pair encoding over characters (Sennrich et al. 2016, arXiv 1508.07909), as Llama uses it. */
export function characterPairs(
  ids: ReadonlyMap<string, number>,
  table: MergeTable,
  fallback: Fallback,
): PieceModel {
  return (word) => {
    const characters: number[] = [];
    for (const character of word) {
      const id = ids.get(character);
      if (id === undefined) pushUnknown(characters, character, fallback);
      else characters.push(id);
    }
    return mergePairs(table, characters);
  };
}
