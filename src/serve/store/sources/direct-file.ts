/**
 * A file that is read past the system's page cache where the system can do that.
 * @module
 */
import { constants, fstatSync, type BigIntStats } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { explain, systemCode } from '../../../checkpoints/index.js';
import { BLOCK } from '../slot-memory.js';

/** See the module. Direct reads go from the disk into the caller's memory, with no copy and nothing kept. */
export class DirectFile {
  private readonly stamp: BigIntStats;

  private constructor(
    private readonly handle: FileHandle,
    private readonly path: string,
    /** Whether reads bypass the page cache. */
    readonly isDirect: boolean,
  ) {
    this.stamp = fstatSync(handle.fd, { bigint: true });
  }

  /** Bytes of the file. */
  get size(): number {
    return Number(this.stamp.size);
  }

  /**
   * Opens a file for direct reads, or for plain ones where its file system has no others (tmpfs), or the system (macOS,
   * Windows).
   *
   * @param scratch {@link BLOCK} bytes on a boundary of as many, to try with; plain reads if undefined.
   */
  static async open(path: string, scratch: Uint8Array<ArrayBuffer> | undefined): Promise<DirectFile> {
    // Not every system has the flag; its type says otherwise.
    const flag = constants.O_DIRECT as number | undefined;
    if (flag !== undefined && scratch) {
      const direct = await tryDirect(path, flag, scratch);
      if (direct) return new DirectFile(direct, path, true);
    }
    return new DirectFile(await open(path, constants.O_RDONLY), path, false);
  }

  /**
   * Fills `target` from `position` on. Both, and the length of the target, are multiples of {@link BLOCK}; the file may end
   * inside of the last one.
   *
   * @param needed bytes that there must be.
   * @throws Error if the file is shorter than it should be, or was changed since it was opened.
   */
  async read(target: Uint8Array<ArrayBuffer>, position: number, needed: number): Promise<void> {
    let done = 0;
    while (done < needed) {
      const { bytesRead } = await this.handle.read(target, done, target.length - done, position + done);
      done += bytesRead;
      // A direct read that ends inside a block is at the end of the file, and could not go on from there.
      if (bytesRead === 0 || (this.isDirect && done % BLOCK !== 0)) break;
    }
    const { size, mtimeNs } = fstatSync(this.handle.fd, { bigint: true });
    if (size !== this.stamp.size || mtimeNs !== this.stamp.mtimeNs)
      throw new Error(`${this.path}: the file was changed while it was open`);
    if (done < needed)
      throw new Error(`${this.path}: ends after ${done} of ${needed} bytes at ${position}; it was cut short`);
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Some file systems refuse the flag, others the first read. */
async function tryDirect(
  path: string,
  flag: number,
  scratch: Uint8Array<ArrayBuffer>,
): Promise<FileHandle | undefined> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | flag);
    await handle.read(scratch, 0, BLOCK, 0);
    return handle;
  } catch (error) {
    await handle?.close();
    if (systemCode(error) === 'EINVAL') return undefined;
    throw new Error(`${path}: cannot open: ${explain(error)}`, { cause: error });
  }
}
