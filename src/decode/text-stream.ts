/**
 * Text from tokens as they come: whole characters only, and nothing of what may turn out to end the text.
 * @module
 */
import type { Tokenizer } from '../data/index.js';

/** What a tokenizer has to offer here. */
export type Decoder = Pick<Tokenizer, 'decode'>;

/** Tokens before the first new one that are decoded with it: enough for any character, and for the space between words. */
const CONTEXT = 16;

/**
 * Decodes a text piece by piece. Tokens are decoded together with those just before them, because a word's leading
 * space and the bytes of a character depend on them.
 *
 * @example
 * const text = new TextStream(tokenizer, prompt, ['\n\n']);
 * for await (const id of generator.generate(prompt, options)) {
 *   process.stdout.write(text.push(id));
 *   if (text.stopped) break;
 * }
 * process.stdout.write(text.end());
 */
export class TextStream {
  private readonly ids: number[];
  /** From where tokens are decoded, and up to where their text has been told. */
  private from = 0;
  private told: number;
  private held = '';
  private found: string | undefined;

  /**
   * @param before ids that the text continues
   * @param stopStrings the text ends before the first of these
   * @throws RangeError if one of them is empty.
   */
  constructor(
    private readonly tokenizer: Decoder,
    before: ArrayLike<number> = [],
    private readonly stopStrings: readonly string[] = [],
  ) {
    if (stopStrings.includes(''))
      throw new RangeError('a stop string is empty: every text would end at once');
    this.ids = Array.from(before).slice(-CONTEXT);
    this.told = this.ids.length;
  }

  /** Whether a stop string has come; nothing is told after it. */
  get stopped(): boolean {
    return this.found !== undefined;
  }

  /** The stop string that has come; of several at one place the first given. */
  get stoppedBy(): string | undefined {
    return this.found;
  }

  /** Adds a token. Returns what has become certain of the text. */
  push(id: number): string {
    this.ids.push(id);
    const fresh = this.fresh();
    // Bytes of an unfinished character: the next tokens may complete it.
    if (fresh.endsWith('\uFFFD')) return '';
    this.advance();
    return this.release(fresh);
  }

  /** The rest, once no token follows: what was held back because it could have become more. */
  end(): string {
    if (this.stopped) return '';
    const rest = this.release(this.fresh()) + this.held;
    this.advance();
    this.held = '';
    return rest;
  }

  private fresh(): string {
    const known = this.tokenizer.decode(this.ids.slice(this.from, this.told));
    return this.tokenizer.decode(this.ids.slice(this.from)).slice(known.length);
  }

  private advance(): void {
    this.from = this.told;
    this.told = this.ids.length;
  }

  /** Takes new text up to a stop string, and holds back what could begin one. */
  private release(fresh: string): string {
    if (this.stopped) return '';
    const text = this.held + fresh;
    let end = text.length;
    for (const stop of this.stopStrings) {
      const at = text.indexOf(stop);
      if (at >= 0 && (this.found === undefined || at < end)) [this.found, end] = [stop, at];
    }
    if (this.stopped) {
      this.held = '';
      return text.slice(0, end);
    }
    const kept = Math.max(0, ...this.stopStrings.map((stop) => overlap(text, stop)));
    this.held = text.slice(text.length - kept);
    return text.slice(0, text.length - kept);
  }
}

/** Length of the longest end of `text` with which `stop` begins. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
