/**
 * Reads safetensors files by range.
 * @module
 */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { explain } from '../system-error.js';
import { bytesOf, elementsOf, storedDTypes, type StoredArray } from './dtypes.js';
import { quote, SafetensorsError, type SafetensorsErrorCode } from './errors.js';
import { MAX_HEADER_BYTES, parseHeader, type Header, type TensorEntry } from './header.js';

/** Bytes read at once: a view or a read of more than 4 GiB cannot exist. */
const SLAB = 64 << 20;

/** Options of {@link SafetensorsFile.read}. */
export interface ReadOptions {
  /** Where to put the elements, exactly as many as are read. After an error its content is undefined. */
  readonly into?: StoredArray;
  /** Only the rows `[begin, end)` of the first axis, such as one expert of a bank `[experts, …]`. */
  readonly rows?: readonly [begin: number, end: number];
}

/** Where the elements of a tensor lie. */
export interface TensorExtent {
  /** Path of the file. */
  readonly file: string;
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  readonly bytes: number;
}

/** What must stay the same while a file is open. */
interface Stamp {
  readonly size: bigint;
  readonly mtimeNs: bigint;
}

/**
 * An open safetensors file. Opening reads and checks the header alone; tensors are read when asked for, so that a
 * model larger than memory can be served.
 *
 * @example
 * ```ts
 * const file = await SafetensorsFile.open('model.safetensors');
 * try {
 *   for (const { name, dtype, shape } of file.tensors.values()) console.log(name, dtype, shape);
 *   const embedding = await file.read('embedding');
 * } finally {
 *   await file.close();
 * }
 * ```
 */
export class SafetensorsFile {
  private constructor(
    /** Path as it was given. */
    readonly path: string,
    private readonly handle: FileHandle,
    private readonly stamp: Stamp,
    private readonly dataStart: number,
    private readonly header: Header,
  ) {}

  /**
   * Opens a file and checks its header.
   * @throws SafetensorsError; the file is then closed.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    let handle: FileHandle;
    try {
      // Without O_NONBLOCK a named pipe would block until someone writes to it.
      handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    } catch (error) {
      throw new SafetensorsError('open', path, `cannot open: ${explain(error)}`, { cause: error });
    }
    return SafetensorsFile.fromHandle(handle, path);
  }

  /**
   * Like {@link open}, with a file that is open already; {@link close} then closes it.
   * @param path for messages.
   */
  static async fromHandle(handle: FileHandle, path: string): Promise<SafetensorsFile> {
    try {
      const stat = await handle.stat({ bigint: true });
      if (!stat.isFile()) throw new SafetensorsError('open', path, 'is not a regular file');
      const size = Number(stat.size);
      const headerBytes = await readHeaderLength(handle, size, path);
      const json = await readBytes(handle, headerBytes, path);
      const dataStart = 8 + headerBytes;
      const header = parseHeader(json, size - dataStart, path);
      return new SafetensorsFile(path, handle, stat, dataStart, header);
    } catch (error) {
      await handle.close();
      if (error instanceof SafetensorsError) throw error;
      throw new SafetensorsError('read', path, `cannot read: ${explain(error)}`, { cause: error });
    }
  }

  /** The same path, by the name that every source of tensors has for it. */
  get location(): string {
    return this.path;
  }

  /** Tensors by name, in the order of their bytes. */
  get tensors(): ReadonlyMap<string, TensorEntry> {
    return this.header.tensors;
  }

  /** Free text that came with the file. */
  get metadata(): ReadonlyMap<string, string> {
    return this.header.metadata;
  }

  /** Where a tensor lies; undefined if there is none of this name. */
  extentOf(name: string): TensorExtent | undefined {
    const entry = this.tensors.get(name);
    return entry && { file: this.path, begin: this.dataStart + entry.begin, bytes: entry.end - entry.begin };
  }

  /**
   * Reads a tensor, or some of its rows, into a new array or the given one.
   *
   * @throws SafetensorsError `missing`, `target`, `memory`, `read`, or `changed` when the file is not what it was
   *   when it was opened. No partly read array is returned.
   */
  async read(name: string, { into, rows }: ReadOptions = {}): Promise<StoredArray> {
    const entry = this.tensors.get(name);
    if (!entry) return this.fail('missing', `there is no tensor ${quote(name)}`);
    const [begin, end] = rows ? this.rowRange(entry, rows) : [entry.begin, entry.end];
    const target = into ?? this.allocate(entry, end - begin);
    const { array } = storedDTypes[entry.dtype];
    if (!(target instanceof array) || target.byteLength !== end - begin)
      return this.fail(
        'target',
        `tensor ${quote(name)} takes a ${array.name} of ${(end - begin) / array.BYTES_PER_ELEMENT} elements, ` +
          `not a ${target.constructor.name} of ${target.length}`,
      );
    try {
      await this.fill(target, this.dataStart + begin, name);
      await this.checkUnchanged(name);
    } catch (error) {
      if (error instanceof SafetensorsError) throw error;
      this.fail('read', `cannot read tensor ${quote(name)}: ${explain(error)}`, error);
    }
    return target;
  }

  /** Closes the file. */
  async close(): Promise<void> {
    await this.handle.close();
  }

  private fail(code: SafetensorsErrorCode, reason: string, cause?: unknown): never {
    throw new SafetensorsError(code, this.path, reason, cause === undefined ? undefined : { cause });
  }

  private rowRange(entry: TensorEntry, [first, last]: readonly [number, number]): [number, number] {
    const [height, ...rest] = entry.shape;
    const rowBits = elementsOf(rest) * storedDTypes[entry.dtype].bits;
    const what = `tensor ${quote(entry.name)} of shape [${entry.shape.join(', ')}]`;
    const isRange = Number.isInteger(first) && Number.isInteger(last) && first >= 0 && first <= last;
    if (height === undefined || !isRange || last > height)
      return this.fail('target', `${what} has no rows ${first} to ${last}`);
    if (rowBits % 8 !== 0) return this.fail('target', `${what} has rows that end inside a byte`);
    return [entry.begin + (first * rowBits) / 8, entry.begin + (last * rowBits) / 8];
  }

  private allocate({ name, dtype }: TensorEntry, bytes: number): StoredArray {
    const { array } = storedDTypes[dtype];
    try {
      return new array(bytes / array.BYTES_PER_ELEMENT);
    } catch (error) {
      return this.fail(
        'memory',
        `tensor ${quote(name)} of ${bytes} bytes does not fit into a ${array.name}`,
        error,
      );
    }
  }

  private async fill(target: StoredArray, position: number, name: string): Promise<void> {
    for (let done = 0; done < target.byteLength;) {
      const slab = bytesOf(target, done, Math.min(done + SLAB, target.byteLength));
      const { bytesRead } = await this.handle.read(slab, 0, slab.length, position + done);
      if (bytesRead === 0)
        this.fail('changed', `the file was cut short while tensor ${quote(name)} was read`);
      done += bytesRead;
    }
  }

  private async checkUnchanged(name: string): Promise<void> {
    const { size, mtimeNs } = await this.handle.stat({ bigint: true });
    if (size !== this.stamp.size || mtimeNs !== this.stamp.mtimeNs)
      this.fail(
        'changed',
        `the file was changed while it was open (found when tensor ${quote(name)} was read)`,
      );
  }
}

async function readHeaderLength(handle: FileHandle, size: number, path: string): Promise<number> {
  const fail = (reason: string): never => {
    throw new SafetensorsError('header-size', path, reason);
  };
  if (size < 8) return fail(`has ${size} bytes; a safetensors file has at least 8`);
  const length = Buffer.alloc(8);
  const { bytesRead } = await handle.read(length, 0, 8, 0);
  if (bytesRead < 8)
    throw new SafetensorsError('changed', path, 'the file was cut short while its header was read');
  const headerBytes = length.readBigUInt64LE();
  if (headerBytes === 0n) return fail('the header has no bytes');
  if (headerBytes > BigInt(MAX_HEADER_BYTES))
    return fail(`the header claims ${headerBytes} bytes; at most ${MAX_HEADER_BYTES} are read`);
  if (headerBytes > BigInt(size - 8))
    return fail(`the header claims ${headerBytes} bytes, but ${size - 8} follow`);
  return Number(headerBytes);
}

async function readBytes(handle: FileHandle, length: number, path: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, length - done, 8 + done);
    if (bytesRead === 0)
      throw new SafetensorsError('changed', path, 'the file was cut short while its header was read');
    done += bytesRead;
  }
  return bytes;
}
