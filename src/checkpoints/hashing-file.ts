/**
 * Files that are hashed while they are written or read, in pieces of bounded size.
 * @module
 */
import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

/** Bytes written or read at once. */
const PIECE = 4 << 20;

/** Size and SHA-256 (64 hex digits) of a file. */
export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Writes bytes one after another from the start of a file and hashes them on the way, the hash of one piece running
 * beside the write of the next. Small writes are gathered.
 */
export class HashingWriter {
  private readonly hash = createHash('sha256');
  private readonly gathered = Buffer.allocUnsafe(1 << 18);
  private filled = 0;
  private position = 0;

  constructor(private readonly handle: FileHandle) {}

  /** Appends bytes; they must not change until the promise resolves. */
  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length <= this.gathered.length - this.filled) {
      this.gathered.set(bytes, this.filled);
      this.filled += bytes.length;
      return;
    }
    await this.flush();
    if (bytes.length <= this.gathered.length) return this.write(bytes);
    for (let begin = 0; begin < bytes.length; begin += PIECE) {
      await this.put(bytes.subarray(begin, begin + PIECE));
    }
  }

  /** Writes what was gathered and returns the digest of the whole. The file is not yet synced. */
  async finish(): Promise<FileDigest> {
    await this.flush();
    return { bytes: this.position, sha256: this.hash.digest('hex') };
  }

  private async flush(): Promise<void> {
    if (this.filled === 0) return;
    await this.put(this.gathered.subarray(0, this.filled));
    this.filled = 0;
  }

  private async put(piece: Uint8Array): Promise<void> {
    const written = writeFully(this.handle, piece, this.position);
    this.hash.update(piece);
    await written;
    this.position += piece.length;
  }
}

/** A system may write less than asked, as it does when the disk is nearly full; the next call then says why. */
async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Size and SHA-256 of an open file. */
export async function digestFile(handle: FileHandle): Promise<FileDigest> {
  const hash = createHash('sha256');
  const pieces = [Buffer.allocUnsafe(PIECE), Buffer.allocUnsafe(PIECE)] as const;
  let position = 0;
  let next = handle.read(pieces[0], 0, PIECE, 0);
  for (let turn = 0; ; turn ^= 1) {
    const { bytesRead } = await next;
    if (bytesRead === 0) return { bytes: position, sha256: hash.digest('hex') };
    position += bytesRead;
    next = handle.read(pieces[turn ^ 1], 0, PIECE, position);
    hash.update(pieces[turn].subarray(0, bytesRead));
  }
}
