/**
 * Words that were encoded before.
 * @module
 */

/** Words that are kept with their ids. About 30 MB when full. */
const capacity = 200_000;
/** Longer words are rare and would fill the cache. */
const longestCachedWord = 64;

/** Keeps the ids of words, because a text repeats them. */
export class WordCache {
  readonly #words = new Map<string, readonly number[]>();

  constructor(private readonly encode: (word: string) => readonly number[]) {}

  /** Appends the ids of a word. */
  push(word: string, out: number[]): void {
    let ids = this.#words.get(word);
    if (!ids) {
      ids = this.encode(word);
      if (word.length <= longestCachedWord) {
        if (this.#words.size >= capacity) this.#words.clear();
        // A word cut from a text keeps all of the text alive; the copy does not.
        this.#words.set(Buffer.from(word, 'utf16le').toString('utf16le'), ids);
      }
    }
    for (const id of ids) out.push(id);
  }
}
