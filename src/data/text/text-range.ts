/**
 * Plain text on disk: files of any size, read piece by piece.
 * @module
 */
import { isUtf8 } from 'node:buffer';
import { statSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

/** Bytes `start` up to `end` (excluded) of a file. */
export interface TextRange {
  readonly path: string;
  readonly start: number;
  readonly end: number;
  /** Size of the whole file in bytes. */
  readonly size: number;
  /** When the file was last changed, in nanoseconds. */
  readonly modified: string;
}

/** Bytes read at a time. */
const pieceBytes = 1 << 20;
/** A text without white space is cut anyway when so much of it waits. */
const longestPiece = 16 * pieceBytes;

/**
 * The whole of a text file, without a byte order mark.
 * @throws Error if there is no such file, it is not a file, or it is empty.
 */
export async function wholeFile(path: string): Promise<TextRange> {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (!stat) throw new Error(`${path}: there is no such file or folder`);
  if (!stat.isFile()) throw new Error(`${path} is not a file`);
  const size = Number(stat.size);
  if (size === 0) throw new Error(`${path} is empty`);
  const start = (await readBytes(path, 0, Math.min(3, size))).equals(Buffer.from([0xef, 0xbb, 0xbf])) ? 3 : 0;
  if (start === size) throw new Error(`${path} is empty but for a byte order mark`);
  return { path, start, end: size, size, modified: String(stat.mtimeNs) };
}

/** Reads bytes of a file. @throws Error if the file is shorter, as when it is cut while it is read. */
export async function readBytes(path: string, start: number, end: number): Promise<Buffer> {
  const file = await open(path);
  try {
    return await readFrom(file, path, start, end);
  } finally {
    await file.close();
  }
}

async function readFrom(file: FileHandle, path: string, start: number, end: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(end - start);
  let filled = 0;
  while (filled < bytes.length) {
    const { bytesRead } = await file.read(bytes, filled, bytes.length - filled, start + filled);
    if (bytesRead === 0)
      throw new Error(
        `${path} ended at byte ${start + filled} while it was read; it had ${end} bytes before`,
      );
    filled += bytesRead;
  }
  return bytes;
}

/**
 * The text of a range in pieces of about a megabyte. Pieces end before white space, where no word of a tokenizer
 * crosses, so that encoding them one by one gives the ids of the whole.
 *
 * @throws Error that names the file and the offset of the first byte that is not UTF-8.
 */
export async function* readText(range: TextRange): AsyncGenerator<string> {
  const file = await open(range.path);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    let rest: Buffer = Buffer.alloc(0);
    let waiting = '';
    for (let at = range.start; at < range.end;) {
      const to = Math.min(range.end, at + pieceBytes);
      const bytes = Buffer.concat([rest, await readFrom(file, range.path, at, to)]);
      const first = at - rest.length;
      const complete = to === range.end ? bytes.length : lengthOfWholeCharacters(bytes);
      const whole = bytes.subarray(0, complete);
      if (!isUtf8(whole)) {
        const offset = first + firstInvalidByte(whole);
        throw new Error(
          `${range.path} is not UTF-8: byte ${offset} (0x${hex(bytes[offset - first])}) begins no character; convert the file to UTF-8`,
        );
      }
      waiting += decoder.decode(whole);
      rest = Buffer.from(bytes.subarray(complete));
      at = to;
      if (at === range.end) break;
      const cut = lastCut(waiting);
      if (cut > 0) {
        yield waiting.slice(0, cut);
        waiting = waiting.slice(cut);
      }
    }
    if (waiting) yield waiting;
  } finally {
    await file.close();
  }
}

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');

/** Bytes up to the last complete character, if the rest may be the beginning of one. */
function lengthOfWholeCharacters(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return bytes.length;
    if (byte >= 0xc0) return characterLength(byte) > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

const characterLength = (lead: number): number => (lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4);

function firstInvalidByte(bytes: Buffer): number {
  let at = 0;
  while (at < bytes.length) {
    const length = characterLength(bytes[at]);
    if (at + length > bytes.length || !isUtf8(bytes.subarray(at, at + length))) return at;
    at += length;
  }
  return at;
}

/** Where a text may be cut: before the last white space that follows something else. */
function lastCut(text: string): number {
  for (let at = text.length - 1; at > 0; at--) {
    if (/\p{White_Space}/u.test(text[at]) && /\P{White_Space}/u.test(text[at - 1])) return at;
  }
  if (text.length < longestPiece) return 0;
  const last = text.charCodeAt(text.length - 1);
  return last >= 0xd800 && last < 0xdc00 ? text.length - 1 : text.length;
}
