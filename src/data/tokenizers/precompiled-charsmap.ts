/**
 * The normalisation table of SentencePiece: a double-array trie (darts-clone) over UTF-8 bytes, whose values point at
 * replacement strings.
 * @module
 */

/** Marks of a code point: 0 before it was looked at, then whether a rule may begin with it. */
const INERT = 1;
const ACTIVE = 2;

/**
 * A `precompiled_charsmap`, as in a `.model` file and in a `tokenizer.json`: four bytes with the size of the trie, the
 * trie, then replacements that end in a zero byte. At every position the longest rule wins, as in SentencePiece's
 * `Normalizer::NormalizePrefix`; Hugging Face's Rust library looks at whole grapheme clusters instead and takes their
 * shortest rule, which differs for clusters of several code points.
 */
export class PrecompiledCharsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Buffer;
  readonly #marks = new Uint8Array(0x110000);

  /** @throws RangeError if the sizes do not fit together. */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length >= 4 ? view.getUint32(0, true) : 0;
    if (size === 0 || size % 4 !== 0 || 4 + size > bytes.length) {
      throw new RangeError(
        `a charsmap of ${bytes.length} bytes cannot hold a trie of ${size} bytes: it is cut or no charsmap`,
      );
    }
    this.#units = Uint32Array.from({ length: size / 4 }, (_, index) => view.getUint32(4 + 4 * index, true));
    this.#replacements = Buffer.from(bytes.subarray(4 + size));
  }

  /** The text with every rule applied once, from left to right. */
  normalize(text: string): string {
    let out = '';
    let copied = 0;
    for (let at = 0; at < text.length;) {
      const code = text.codePointAt(at)!;
      if (this.#markOf(code) === INERT) {
        at += code > 0xffff ? 2 : 1;
        continue;
      }
      const rule = this.#longestRule(text, at);
      if (rule) {
        out += text.slice(copied, at) + rule.replacement;
        at = copied = at + rule.length;
      } else at += code > 0xffff ? 2 : 1;
    }
    return copied === 0 ? text : out + text.slice(copied);
  }

  #markOf(code: number): number {
    return (this.#marks[code] ||= this.#stepCharacter(0, code) === undefined ? INERT : ACTIVE);
  }

  /** The rule with the most code points that begins at a position: UTF-16 units it covers, and what replaces them. */
  #longestRule(text: string, start: number): { length: number; replacement: string } | undefined {
    let node: number | undefined = 0;
    let found: { length: number; value: number } | undefined;
    for (let at = start; at < text.length;) {
      const code = text.codePointAt(at)!;
      node = this.#stepCharacter(node, code);
      if (node === undefined) break;
      at += code > 0xffff ? 2 : 1;
      // Bit 8 of a unit says that a value hangs below it.
      if ((this.#units[node] >>> 8) & 1) {
        const leaf = this.#childrenOf(node);
        if (leaf < this.#units.length) found = { length: at - start, value: this.#units[leaf] & 0x7fffffff };
      }
    }
    if (!found) return undefined;
    const end = this.#replacements.indexOf(0, found.value);
    const last = end < 0 ? this.#replacements.length : end;
    return { length: found.length, replacement: this.#replacements.toString('utf8', found.value, last) };
  }

  /** Index of the children of a unit, before a byte is added; its value lies there. */
  #childrenOf(node: number): number {
    const unit = this.#units[node];
    return (node ^ ((unit >>> 10) << ((unit & (1 << 9)) >>> 6))) >>> 0;
  }

  /** The unit that the UTF-8 bytes of a code point lead to. */
  #stepCharacter(node: number, code: number): number | undefined {
    if (code < 0x80) return this.#step(node, code);
    const count = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    // As many leading ones as there are bytes; then six bits in each of the others.
    const lead = ((0xf00 >>> count) & 0xff) | (code >>> (6 * (count - 1)));
    let at = this.#step(node, lead);
    for (let rest = count - 2; rest >= 0 && at !== undefined; rest--) {
      at = this.#step(at, 0x80 | ((code >>> (6 * rest)) & 0x3f));
    }
    return at;
  }

  /** The unit that a byte leads to from a unit; undefined if none, or if a damaged trie points outside. */
  #step(node: number, byte: number): number | undefined {
    const next = (this.#childrenOf(node) ^ byte) >>> 0;
    if (next >= this.#units.length) return undefined;
    // The label is the low byte; the top bit marks a value, which no byte leads to.
    return (this.#units[next] & 0x800000ff) >>> 0 === byte ? next : undefined;
  }
}
