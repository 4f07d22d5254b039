/**
 * Learns a byte-level BPE vocabulary (Sennrich et al. 2016, algorithm 1) with counts that are updated, not recounted.
 * @module
 */
import { BinaryHeap } from './binary-heap.js';
import { byteCharacters } from './byte-alphabet.js';
import { BytePairTokenizer, wordPattern } from './byte-level-bpe.js';
import { sentinelName } from './tokenizer.js';

/** The token that ends a text; it also begins one, as in GPT-2. */
export const endOfText = '<|endoftext|>';

/** Options of {@link trainBytePair}. */
export interface TrainBytePairOptions {
  /** All tokens: 256 bytes, the merges and `<|endoftext|>`. */
  readonly vocabSize: number;
  /** A pair must occur so often to be merged; default 2. */
  readonly minFrequency?: number;
  /**
   * Make a vocabulary like T5's, with so many sentinels for span corruption: `<pad>` is 0, `</s>` is 1, and
   * `<extra_id_0>` is the last id, `<extra_id_1>` the one before. There is no `<|endoftext|>` then. Default 0: none of this.
   */
  readonly sentinels?: number;
}

/** A longer word (a megabyte without a space) is learnt from in pieces, because each merge walks over its word. */
const longestWord = 1024;
/** Larger than any vocabulary; a pair is `left · idLimit + right`. */
const idLimit = 2 ** 24;

/**
 * Learns merges by frequency; among equal counts the pair of lower ids comes first. Ids are those of the trainer of
 * Hugging Face (bytes in the order of their alphabet, then merges), so the merges are the same as well.
 *
 * @param texts pieces of the training text, cut at white space.
 * @throws RangeError if the text has too few pairs for `vocabSize`; the message says how many tokens it yields.
 * @example
 * const tokenizer = trainBytePair([text], { vocabSize: 8000 });
 * await writeFile('tokenizer.json', JSON.stringify(tokenizer.toFile()));
 */
export function trainBytePair(texts: Iterable<string>, options: TrainBytePairOptions): BytePairTokenizer {
  const counter = new WordCounter();
  for (const text of texts) counter.add(text);
  return counter.train(options);
}

/** Counts the words of a text that comes in pieces. */
export class WordCounter {
  readonly #counts = new Map<string, number>();

  /** Counts the words of one more piece. */
  add(text: string): void {
    for (const word of text.match(wordPattern) ?? []) {
      const count = this.#counts.get(word);
      if (count !== undefined) this.#counts.set(word, count + 1);
      else this.#counts.set(Buffer.from(word, 'utf16le').toString('utf16le'), 1);
    }
  }

  /** Learns the vocabulary of the words counted so far. @throws as {@link trainBytePair}. */
  train({ vocabSize, minFrequency = 2, sentinels = 0 }: TrainBytePairOptions): BytePairTokenizer {
    if (sentinels > 0) {
      // The merges are those of a vocabulary without the tokens around them.
      const plain = this.train({ vocabSize: vocabSize - sentinels - 1, minFrequency });
      return withSentinels(plain, sentinels);
    }
    if (!(Number.isSafeInteger(vocabSize) && vocabSize > 256 && vocabSize < idLimit)) {
      throw new RangeError(
        `vocabSize must be an integer of at least 257 (256 bytes and ${endOfText}), not ${vocabSize}`,
      );
    }
    const vocabulary = byteCharacters.toSorted();
    const idOfByte = byteCharacters.map((character) => vocabulary.indexOf(character));
    const pairs = new PairCounts(this.#counts, idOfByte);
    const merges: [number, number, number][] = [];
    while (vocabulary.length < vocabSize - 1) {
      const best = pairs.popMostFrequent();
      if (!best || best.count < minFrequency) {
        throw new RangeError(
          `vocabSize ${vocabSize} is too large for this text: it has pairs for ${vocabulary.length + 1} tokens only ` +
            `(each seen at least ${minFrequency} times); give more text or a smaller vocabSize`,
        );
      }
      const { left, right } = best;
      merges.push([left, right, vocabulary.length]);
      pairs.merge(left, right, vocabulary.length);
      vocabulary.push(vocabulary[left] + vocabulary[right]);
    }
    const end = vocabulary.length;
    return new BytePairTokenizer({
      vocabulary: [...vocabulary, endOfText],
      merges,
      added: [{ id: end, content: endOfText, special: true }],
      special: { bos: end, eos: end },
    });
  }
}

/** Puts T5's tokens around the bytes and merges of a vocabulary that ends with `<|endoftext|>`. */
function withSentinels({ model }: BytePairTokenizer, sentinels: number): BytePairTokenizer {
  const [pad, end] = ['<pad>', '</s>'];
  const shift = 2;
  const learnt = model.vocabulary.slice(0, -1);
  const names = Array.from({ length: sentinels }, (_, i) => sentinelName(sentinels - 1 - i));
  const vocabulary = [pad, end, ...learnt, ...names];
  const added = [0, 1, ...names.map((_, i) => shift + learnt.length + i)];
  return new BytePairTokenizer({
    vocabulary,
    merges: model.merges.map(([left, right, merged]) => [left + shift, right + shift, merged + shift]),
    added: added.map((id) => ({ id, content: vocabulary[id], special: true })),
    special: { pad: 0, eos: 1 },
  });
}

/** How often each pair of neighbours stands in the words, kept up to date through merges. */
class PairCounts {
  readonly #words: { ids: Int32Array; length: number; readonly count: number }[] = [];
  readonly #counts = new Map<number, number>();
  /** Words that a pair may stand in. */
  readonly #places = new Map<number, number[]>();
  readonly #heap = new BinaryHeap<{ readonly pair: number; readonly count: number }>(
    (a, b) => a.count > b.count || (a.count === b.count && a.pair < b.pair),
  );

  constructor(counts: ReadonlyMap<string, number>, idOfByte: readonly number[]) {
    const encoder = new TextEncoder();
    for (const [text, count] of counts) {
      const ids = Int32Array.from(encoder.encode(text), (byte) => idOfByte[byte]);
      for (let start = 0; start < ids.length; start += longestWord) {
        const piece = ids.slice(start, start + longestWord);
        const word = this.#words.push({ ids: piece, length: piece.length, count }) - 1;
        for (let at = 0; at + 1 < piece.length; at++) this.#change(piece[at], piece[at + 1], count, word);
      }
    }
    for (const [pair, count] of this.#counts) this.#heap.push({ pair, count });
  }

  /** The most frequent pair. Entries of the heap may be out of date: counts only fall, so an entry is put back. */
  popMostFrequent(): { readonly left: number; readonly right: number; readonly count: number } | undefined {
    for (;;) {
      const top = this.#heap.pop();
      if (!top) return undefined;
      const count = this.#counts.get(top.pair) ?? 0;
      if (count === top.count) {
        const right = top.pair % idLimit;
        return { left: (top.pair - right) / idLimit, right, count };
      }
      if (count > 0) this.#heap.push({ pair: top.pair, count });
    }
  }

  /** Replaces the pair by `merged` in every word. */
  merge(left: number, right: number, merged: number): void {
    const pair = left * idLimit + right;
    const risen = new Set<number>();
    const places = new Set(this.#places.get(pair) ?? []);
    this.#places.delete(pair);
    for (const index of places) {
      const word = this.#words[index];
      const { ids, count } = word;
      let write = 0;
      for (let read = 0; read < word.length; read++, write++) {
        if (ids[read] !== left || read + 1 >= word.length || ids[read + 1] !== right) {
          ids[write] = ids[read]!;
          continue;
        }
        if (write > 0) {
          const before = ids[write - 1];
          this.#change(before, left, -count, index);
          risen.add(this.#change(before, merged, count, index));
        }
        if (read + 2 < word.length) {
          const after = ids[read + 2];
          this.#change(right, after, -count, index);
          risen.add(this.#change(merged, after, count, index));
        }
        ids[write] = merged;
        read++;
      }
      word.length = write;
    }
    this.#counts.delete(pair);
    for (const changed of risen) {
      const count = this.#counts.get(changed) ?? 0;
      if (count > 0) this.#heap.push({ pair: changed, count });
    }
  }

  #change(left: number, right: number, by: number, word: number): number {
    const pair = left * idLimit + right;
    this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + by);
    if (by > 0) {
      const places = this.#places.get(pair);
      if (!places) this.#places.set(pair, [word]);
      else if (places.at(-1) !== word) places.push(word);
    }
    return pair;
  }
}
