/**
 * Tokens that are matched in a text before it is cut into words.
 * @module
 */

/** An entry of `added_tokens` in a `tokenizer.json`. */
export interface AddedTokenEntry {
  readonly id: number;
  readonly content: string;
  /** Left out of decoded text. */
  readonly special: boolean;
}

/** Finds added tokens in a text, the longest first. */
export class AddedTokens {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #pattern: RegExp | undefined;

  constructor(entries: readonly AddedTokenEntry[]) {
    this.#ids = new Map(entries.map(({ content, id }) => [content, id]));
    this.#specialIds = new Set(entries.filter(({ special }) => special).map(({ id }) => id));
    if (entries.length > 0) {
      const longestFirst = entries.map(({ content }) => content).sort((a, b) => b.length - a.length);
      this.#pattern = new RegExp(`(${longestFirst.map(escapePattern).join('|')})`, 'u');
    }
  }

  /** Whether a content is an added token. */
  has(content: string): boolean {
    return this.#ids.has(content);
  }

  /** Whether an id is left out of decoded text. */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** The text in pieces: ids of added tokens, and the text around them. */
  split(text: string): (string | number)[] {
    if (!this.#pattern) return [text];
    return text
      .split(this.#pattern)
      .map((part, index) => (index % 2 ? this.#ids.get(part)! : part))
      .filter((part) => part !== '');
  }
}

const escapePattern = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');
