/**
 * The header of a safetensors file: 8 bytes of length, JSON, then the tensors one after another.
 *
 * Everything is checked before anything is allocated for a tensor, so that a file of a few bytes cannot ask for
 * gigabytes. Stricter than the reference implementation (which keeps the last of two equal keys and ignores what it
 * does not know): a key that occurs twice, a field that does not exist, `null` as `__metadata__`, more than
 * {@link MAX_RANK} sizes, and numbers above 2⁵³ − 1 are refused.
 * @module
 */
import { isUtf8 } from 'node:buffer';
import {
  elementsOf,
  isStoredDType,
  rankOf,
  storedDTypes,
  type StoredArray,
  type StoredDType,
  type TensorInfo,
} from './dtypes.js';
import { quote, SafetensorsError } from './errors.js';
import { Scanner } from './scanner.js';

/** Bytes of the longest header that is read, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Sizes that a shape may have; NumPy and PyTorch stop at 64 too. */
export const MAX_RANK = 64;

/** Where a tensor lies. */
export interface TensorEntry extends TensorInfo {
  /** First byte, counted from the start of the data. */
  readonly begin: number;
  /** Byte after the last. */
  readonly end: number;
}

/** What a header says. Both are Maps: a tensor may be called `__proto__`. */
export interface Header {
  /** Free text that came with the file. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Tensors by name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/**
 * Reads and checks a header.
 *
 * @param json the header without its length.
 * @param dataBytes bytes of the file after the header.
 * @param file path for messages.
 * @throws SafetensorsError
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): Header {
  if (!isUtf8(json)) throw new SafetensorsError('utf8', file, 'the header is not UTF-8');
  const scanner = new Scanner(json, file);
  const metadata = new Map<string, string>();
  const entries: TensorEntry[] = [];
  scanner.object('the header', 'json', (name) => {
    if (name !== '__metadata__') entries.push(parseEntry(scanner, name));
    else
      scanner.object('__metadata__', 'metadata', (key) => {
        metadata.set(key, scanner.string(`__metadata__ ${quote(key)}`, 'metadata'));
      });
  });
  scanner.end();
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkLayout(entries, dataBytes, file);
  return { metadata, tensors: new Map(entries.map((entry) => [entry.name, entry])) };
}

function parseEntry(scanner: Scanner, name: string): TensorEntry {
  const what = `tensor ${quote(name)}`;
  let dtype: StoredDType | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  scanner.object(what, 'entry', (key) => {
    if (key === 'dtype') {
      const spelt = scanner.string(`${what}: dtype`, 'dtype');
      if (!isStoredDType(spelt))
        scanner.fail(
          'dtype',
          `${what} has the unknown dtype ${quote(spelt)}; known are ${Object.keys(storedDTypes).join(', ')}`,
        );
      dtype = spelt;
    } else if (key === 'shape') {
      const sizes: number[] = [];
      scanner.array(`${what}: shape`, 'shape', () => {
        if (sizes.length === MAX_RANK) scanner.fail('shape', `${what} has more than ${MAX_RANK} sizes`);
        sizes.push(scanner.natural(`${what}: a size`, 'shape'));
      });
      shape = sizes;
    } else if (key === 'data_offsets') {
      const pair: number[] = [];
      scanner.array(`${what}: data_offsets`, 'offsets', () => {
        if (pair.length === 2) scanner.fail('offsets', `${what} has more than two data_offsets`);
        pair.push(scanner.natural(`${what}: an offset`, 'offsets'));
      });
      offsets = pair;
    } else scanner.fail('entry', `${what} has the unknown field ${quote(key)}`);
  });
  if (!dtype) return scanner.fail('entry', `${what} has no dtype`);
  if (!shape) return scanner.fail('entry', `${what} has no shape`);
  if (!offsets) return scanner.fail('entry', `${what} has no data_offsets`);
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined)
    return scanner.fail('offsets', `${what} must have two data_offsets`);
  if (end < begin) return scanner.fail('offsets', `${what} ends (${end}) before it begins (${begin})`);
  const bits = elementsOf(shape) * storedDTypes[dtype].bits;
  if (!Number.isSafeInteger(bits))
    return scanner.fail('shape', `${what} has too many elements: [${shape.join(', ')}]`);
  if (bits % 8 !== 0) return scanner.fail('span', `${what} ends inside a byte: ${bits} bits`);
  if (bits / 8 !== end - begin)
    return scanner.fail(
      'span',
      `${what} spans ${end - begin} bytes, but ${dtype} [${shape.join(', ')}] takes ${bits / 8}`,
    );
  return { name, dtype, shape, begin, end };
}

/** Tensors in the order of their bytes must fill the data with neither hole nor overlap. */
function checkLayout(entries: readonly TensorEntry[], dataBytes: number, file: string): void {
  let at = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== at) {
      const wrong = begin < at ? 'overlaps the tensor before it' : 'leaves a hole before it';
      throw new SafetensorsError(
        'offsets',
        file,
        `tensor ${quote(name)} ${wrong}: it begins at ${begin} instead of ${at}`,
      );
    }
    at = end;
  }
  if (at > dataBytes)
    throw new SafetensorsError(
      'file-size',
      file,
      `the file is ${at - dataBytes} bytes too short for its tensors`,
    );
  if (at < dataBytes)
    throw new SafetensorsError('file-size', file, `${dataBytes - at} bytes follow the last tensor`);
}

/** A header to write, with the tensors in the order in which they must follow. */
export interface PlannedFile<Tensor extends TensorInfo> {
  /** Length, JSON and padding to 8 bytes. */
  readonly head: Uint8Array;
  readonly tensors: readonly Tensor[];
  /** Bytes of the whole file. */
  readonly bytes: number;
}

/**
 * Lays a file out: widest element type first, then by the bytes of the name, as the reference implementation does.
 * Metadata is sorted by key, so that equal content gives equal bytes.
 *
 * @param alignment what the first byte of data is a multiple of; tensors then lie in the order in which they are given. 8,
 *   and the order of the reference implementation, when absent.
 * @throws SafetensorsError (`tensor`) for two tensors of one name, or a shape or name that cannot be stored.
 */
export function planFile<Tensor extends TensorInfo>(
  tensors: Iterable<Tensor>,
  metadata: Iterable<readonly [string, string]>,
  file: string,
  alignment?: number,
): PlannedFile<Tensor> {
  const sorted = alignment === undefined ? inStoredOrder(tensors) : [...tensors];
  const parts: string[] = [];
  const texts = [...metadata].sort(([a], [b]) => compareBytes(a, b));
  if (texts.length > 0) {
    const fields = texts.map(([key, text]) => `${jsonString(key, file)}:${jsonString(text, file)}`);
    parts.push(`"__metadata__":{${fields.join(',')}}`);
  }
  let at = 0;
  const names = new Set<string>(['__metadata__']);
  for (const tensor of sorted) {
    const bytes = bytesOfTensor(tensor, file);
    const { name, dtype, shape } = tensor;
    if (names.has(name)) throw new SafetensorsError('tensor', file, `the name ${quote(name)} is taken`);
    names.add(name);
    const end = at + bytes;
    parts.push(
      `${jsonString(name, file)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${at},${end}]}`,
    );
    at = end;
  }
  const json = Buffer.from(`{${parts.join(',')}}`);
  const start = alignment ?? 8;
  const length = Math.ceil((8 + json.length) / start) * start - 8;
  if (length > MAX_HEADER_BYTES)
    throw new SafetensorsError('header-size', file, `the header would take ${length} bytes`);
  const head = Buffer.alloc(8 + length, ' ');
  head.writeBigUInt64LE(BigInt(length));
  json.copy(head, 8);
  return { head, tensors: sorted, bytes: head.length + at };
}

/** Tensors in the order in which files hold them: widest element type first, then by the bytes of the name. */
export function inStoredOrder<Tensor extends TensorInfo>(tensors: Iterable<Tensor>): Tensor[] {
  return [...tensors]
    .map((tensor) => ({ tensor, name: Buffer.from(tensor.name) }))
    .sort((a, b) => rankOf(b.tensor.dtype) - rankOf(a.tensor.dtype) || Buffer.compare(a.name, b.name))
    .map(({ tensor }) => tensor);
}

/**
 * Bytes that a tensor takes in a file.
 * @throws SafetensorsError (`tensor`) if there can be no such tensor.
 */
export function bytesOfTensor({ name, dtype, shape }: TensorInfo, file: string): number {
  const bits = elementsOf(shape) * storedDTypes[dtype].bits;
  const isShape = shape.length <= MAX_RANK && shape.every((size) => Number.isSafeInteger(size) && size >= 0);
  if (!isShape || !Number.isSafeInteger(bits) || bits % 8 !== 0)
    throw new SafetensorsError(
      'tensor',
      file,
      `tensor ${quote(name)} cannot be ${dtype} [${shape.join(', ')}]`,
    );
  return bits / 8;
}

/**
 * Makes sure that data is what a tensor says of itself.
 * @throws SafetensorsError (`tensor`)
 */
export function checkData(info: TensorInfo, data: StoredArray, file: string): void {
  const { name, dtype, shape } = info;
  const fail = (reason: string): never => {
    throw new SafetensorsError('tensor', file, `tensor ${quote(name)} ${reason}`);
  };
  const { array } = storedDTypes[dtype];
  if (!(data instanceof array))
    fail(`is ${dtype}, which is held by a ${array.name}, not a ${data.constructor.name}`);
  const bytes = bytesOfTensor(info, file);
  if (bytes !== data.byteLength)
    fail(`has ${data.byteLength} bytes, but ${dtype} [${shape.join(', ')}] takes ${bytes}`);
}

function jsonString(text: string, file: string): string {
  if (/\p{Surrogate}/u.test(text))
    throw new SafetensorsError('tensor', file, `${quote(text)} holds half of a surrogate pair`);
  return JSON.stringify(text);
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
