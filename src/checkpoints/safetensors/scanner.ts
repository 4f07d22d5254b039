/**
 * A cursor over the JSON text of a safetensors header, or of an index of shards.
 *
 * `JSON.parse` keeps the last of two equal keys, so that two readers may see two different models in one file; and it
 * builds any value before anyone can look at it. The scanner reads only what the format has: objects whose keys are
 * handed out one by one, strings, and whole numbers. It never recurses.
 * @module
 */
import { quote, SafetensorsError, type SafetensorsErrorCode } from './errors.js';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** See the module. Every method throws a {@link SafetensorsError} when the text is something else. */
export class Scanner {
  private at = 0;
  private readonly buffer: Buffer;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly file: string,
    /** What the text is, in messages. */
    private readonly part = 'header',
    /** Code for text that is not JSON. */
    private readonly malformedCode: SafetensorsErrorCode = 'json',
  ) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Throws an error about the file. */
  fail(code: SafetensorsErrorCode, reason: string): never {
    throw new SafetensorsError(code, this.file, reason);
  }

  /**
   * Reads an object: calls `entry` with every key, standing before its value.
   * @param what names the object in messages.
   */
  object(what: string, code: SafetensorsErrorCode, entry: (key: string) => void): void {
    this.open('{', `${what} must be an object`, code);
    const keys = new Set<string>();
    if (this.closed('}')) return;
    do {
      const key = this.string(`a key of ${what}`);
      if (keys.has(key)) this.fail('duplicate', `${what} has the key ${quote(key)} twice`);
      keys.add(key);
      this.punctuation(':');
      entry(key);
    } while (this.continues('}'));
  }

  /** Reads an array: calls `item` standing before every element. */
  array(what: string, code: SafetensorsErrorCode, item: () => void): void {
    this.open('[', `${what} must be an array`, code);
    if (this.closed(']')) return;
    do item();
    while (this.continues(']'));
  }

  /** Reads a string. */
  string(what: string, code = this.malformedCode): string {
    this.open('"', `${what} must be a string`, code);
    const { bytes } = this;
    const start = this.at;
    let escaped = false;
    let at = start;
    for (; bytes[at] !== QUOTE; at++) {
      const byte = bytes[at];
      if (byte === undefined) this.malformed('a string does not end', start);
      if (byte < 0x20) this.malformed('a string holds a control character', at);
      if (byte === BACKSLASH) {
        escaped = true;
        at++;
      }
    }
    this.at = at + 1;
    const text = this.buffer.toString('utf8', start, at);
    return escaped ? this.unescape(text, start) : text;
  }

  /** Reads a whole number from 0 to 2⁵³ − 1. */
  natural(what: string, code: SafetensorsErrorCode): number {
    this.skipSpace();
    const start = this.at;
    while (isDigit(this.bytes[this.at])) this.at++;
    const digits = this.buffer.toString('latin1', start, Math.min(this.at, start + 20));
    const next = this.bytes[this.at];
    const isWhole = digits !== '' && next !== 0x2e && next !== 0x65 && next !== 0x45;
    const value = Number(digits);
    if (!isWhole || !Number.isSafeInteger(value))
      this.fail(code, `${what} must be a whole number from 0 to 2^53 - 1 (${this.part} byte ${start})`);
    if (digits.length > 1 && digits.startsWith('0')) this.malformed('a number starts with 0', start);
    return value;
  }

  /** Reads a string, a number, `true`, `false` or `null`. */
  scalar(what: string, code: SafetensorsErrorCode): string | number | boolean | null {
    this.skipSpace();
    if (this.bytes[this.at] === QUOTE) return this.string(what, code);
    const start = this.at;
    while (isOfScalar(this.bytes[this.at])) this.at++;
    // No number of a use is longer, and no text may be scanned twice.
    const text = this.buffer.toString('latin1', start, Math.min(this.at, start + 64));
    try {
      return JSON.parse(text) as number | boolean | null;
    } catch {
      return this.fail(
        code,
        `${what} must be a string, a number, true, false or null (${this.part} byte ${start})`,
      );
    }
  }

  /** Makes sure that only white space is left. */
  end(): void {
    this.skipSpace();
    if (this.at < this.bytes.length) this.malformed('something follows the object', this.at);
  }

  private malformed(reason: string, at: number): never {
    this.fail(this.malformedCode, `the ${this.part} is not JSON: ${reason} (${this.part} byte ${at})`);
  }

  private unescape(text: string, start: number): string {
    let value: string;
    try {
      value = JSON.parse(`"${text}"`) as string;
    } catch {
      return this.malformed('a string holds a wrong escape', start);
    }
    if (/\p{Surrogate}/u.test(value)) this.malformed('a string holds half of a surrogate pair', start);
    return value;
  }

  private skipSpace(): void {
    const { bytes } = this;
    for (;;) {
      const byte = bytes[this.at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return;
      this.at++;
    }
  }

  private open(character: string, reason: string, code: SafetensorsErrorCode): void {
    this.skipSpace();
    if (this.bytes[this.at] !== character.charCodeAt(0))
      this.fail(code, `${reason} (${this.part} byte ${this.at})`);
    this.at++;
  }

  private closed(character: string): boolean {
    this.skipSpace();
    const found = this.bytes[this.at] === character.charCodeAt(0);
    if (found) this.at++;
    return found;
  }

  private punctuation(character: string): void {
    if (!this.closed(character)) this.malformed(`'${character}' is missing`, this.at);
  }

  private continues(end: string): boolean {
    if (this.closed(end)) return false;
    if (!this.closed(',')) this.malformed(`',' or '${end}' is missing`, this.at);
    return true;
  }
}

/** Letters, digits, `+`, `-` and `.`: what numbers and words of JSON are made of. */
function isOfScalar(byte: number | undefined): boolean {
  if (byte === undefined) return false;
  return (
    isDigit(byte) ||
    ((byte | 0x20) - 0x61 < 26 && (byte | 0x20) >= 0x61) ||
    byte === 0x2b ||
    byte === 0x2d ||
    byte === 0x2e
  );
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}
