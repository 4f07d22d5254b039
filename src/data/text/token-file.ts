/**
 * Text that was tokenised once, in a file: raw little-endian uint16 or uint32, as nanoGPT's `train.bin`.
 * @module
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { TokenSource } from '../batches/token-source.js';
import type { Tokenizer } from '../tokenizers/tokenizer.js';
import { readText, type TextRange } from './text-range.js';

const formatVersion = 1;
const headerSchema = z.strictObject({
  formatVersion: z.literal(formatVersion),
  /** Hash of what the tokens were made from. */
  source: z.string(),
  /** Hash of the tokens themselves. */
  content: z.string(),
  bytesPerToken: z.union([z.literal(2), z.literal(4)]),
  length: z.int().nonnegative(),
});

/** Tokens in a file, read by range: a corpus of any size costs no memory. */
export class TokenFile implements TokenSource {
  readonly #file: number;
  #scratch = Buffer.alloc(0);

  constructor(
    path: string,
    readonly length: number,
    /** Hash of the tokens: a saved position stays good when the text is moved or touched. */
    readonly fingerprint: string,
    readonly bytesPerToken: 2 | 4,
  ) {
    this.#file = openSync(path, 'r');
  }

  read(start: number, end: number, out: Int32Array, at: number): void {
    const size = (end - start) * this.bytesPerToken;
    if (this.#scratch.length < size) this.#scratch = Buffer.alloc(size);
    let filled = 0;
    while (filled < size) {
      const count = readSync(
        this.#file,
        this.#scratch,
        filled,
        size - filled,
        start * this.bytesPerToken + filled,
      );
      if (count === 0)
        throw new RangeError(`tokens ${start} to ${end} are outside a file of ${this.length} tokens`);
      filled += count;
    }
    for (let index = 0; index < end - start; index++) {
      out[at + index] =
        this.bytesPerToken === 2
          ? this.#scratch.readUInt16LE(2 * index)
          : this.#scratch.readUInt32LE(4 * index);
    }
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.#file);
  }
}

/**
 * Tokenises ranges of text into the cache, or opens what is there from an earlier time. Texts of several files are
 * joined as they are, or by the end-of-text token where the tokenizer has one. A tokenizer that is not byte-level (one
 * that puts a space before its text, say) sees each piece of about a megabyte as a text of its own.
 *
 * A cache entry is named by path, size, date and range of the files and by the tokenizer. Its tokens are written under
 * a temporary name, flushed and renamed, then its header the same way: an entry without a header, or of another size
 * than the header says, is made again.
 *
 * @throws Error for text that is not UTF-8 or that the tokenizer cannot spell; it names the file.
 */
export async function openTokens(
  ranges: readonly TextRange[],
  tokenizer: Tokenizer,
  cacheFolder: string,
): Promise<TokenFile> {
  const source = fingerprintOfText(ranges, tokenizer.fingerprint);
  const base = join(cacheFolder, `tokens-${source.slice(0, 32)}`);
  const cached = openCached(base, source);
  if (cached) return cached;
  await mkdir(cacheFolder, { recursive: true });
  const temporary = `${base}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`;
  const bytesPerToken = tokenizer.vocabSize <= 65_536 ? 2 : 4;
  try {
    const { length, content } = await writeTokens(temporary, ranges, tokenizer, bytesPerToken);
    await rename(temporary, `${base}.bin`);
    const header = { formatVersion, source, content, bytesPerToken, length } satisfies z.output<
      typeof headerSchema
    >;
    await writeFile(temporary, JSON.stringify(header), { flush: true });
    await rename(temporary, `${base}.json`);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  const made = openCached(base, source);
  if (!made)
    throw new Error(`${base}.bin changed while it was written; is another program clearing ${cacheFolder}?`);
  return made;
}

/** Names ranges of text and what tokenises them. */
export function fingerprintOfText(ranges: readonly TextRange[], tokenizer: string): string {
  return createHash('sha256')
    .update(JSON.stringify([formatVersion, ranges, tokenizer]))
    .digest('hex');
}

function openCached(base: string, source: string): TokenFile | undefined {
  let header: z.output<typeof headerSchema>;
  try {
    header = headerSchema.parse(JSON.parse(readFileSync(`${base}.json`, 'utf8')));
  } catch {
    return undefined;
  }
  if (header.source !== source) return undefined;
  try {
    const file = openSync(`${base}.bin`, 'r');
    const { size } = fstatSync(file);
    closeSync(file);
    if (size !== header.length * header.bytesPerToken) return undefined;
  } catch {
    return undefined;
  }
  return new TokenFile(`${base}.bin`, header.length, header.content, header.bytesPerToken);
}

async function writeTokens(
  path: string,
  ranges: readonly TextRange[],
  tokenizer: Tokenizer,
  bytesPerToken: 2 | 4,
): Promise<{ length: number; content: string }> {
  const file = await open(path, 'wx');
  const hash = createHash('sha256');
  try {
    let length = 0;
    const write = async (ids: ArrayLike<number>): Promise<void> => {
      const bytes = Buffer.alloc(ids.length * bytesPerToken);
      for (let index = 0; index < ids.length; index++) {
        if (bytesPerToken === 2) bytes.writeUInt16LE(ids[index], 2 * index);
        else bytes.writeUInt32LE(ids[index], 4 * index);
      }
      await file.writeFile(bytes);
      hash.update(bytes);
      length += ids.length;
    };
    for (const [index, range] of ranges.entries()) {
      if (index > 0 && tokenizer.special.eos !== undefined) await write([tokenizer.special.eos]);
      for await (const text of readText(range)) {
        let ids: Int32Array;
        try {
          ids = tokenizer.encode(text);
        } catch (error) {
          throw new Error(`${range.path}: ${(error as Error).message}`, { cause: error });
        }
        await write(ids);
      }
    }
    await file.sync();
    return { length, content: hash.digest('hex') };
  } finally {
    await file.close();
  }
}
