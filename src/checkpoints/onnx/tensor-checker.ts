/**
 * Constants of an ONNX model, inside it or in a file beside it.
 * @module
 */
import { lstat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  type TensorProto,
} from 'onnx-buf';
import { elementsOf } from '../safetensors/dtypes.js';
import { quote } from '../safetensors/errors.js';
import { explain } from '../system-error.js';
import { OnnxError } from './errors.js';

/** Element types that our graphs have: name and bytes. */
export const elementTypes: ReadonlyMap<number, { readonly name: string; readonly bytes: number }> = new Map([
  [DataType.FLOAT, { name: 'FLOAT', bytes: 4 }],
  [DataType.DOUBLE, { name: 'DOUBLE', bytes: 8 }],
  [DataType.INT32, { name: 'INT32', bytes: 4 }],
  [DataType.INT64, { name: 'INT64', bytes: 8 }],
  [DataType.BOOL, { name: 'BOOL', bytes: 1 }],
]);

/** Fields that hold numbers one by one; we write raw bytes alone, which cost no object each. */
const numberFields = [
  'floatData',
  'int32Data',
  'int64Data',
  'doubleData',
  'uint64Data',
  'stringData',
] as const;

/** Checks the constants of one model. */
export class TensorChecker {
  private readonly sizes = new Map<string, Promise<number>>();

  constructor(private readonly path: string) {}

  /**
   * Checks a constant.
   * @returns its bytes if they lie in another file.
   * @throws OnnxError
   */
  async check(tensor: TensorProto): Promise<number | undefined> {
    const what = `constant ${quote(tensor.name)}`;
    const element = elementTypes.get(tensor.dataType);
    if (!element) return this.fail(`${what} has the unknown element type ${tensor.dataType}`);
    const shape = tensor.dims.map(Number);
    const bytes = elementsOf(shape) * element.bytes;
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0) || !Number.isSafeInteger(bytes))
      return this.fail(`${what} cannot have the shape [${tensor.dims.slice(0, 20).join(', ')}]`);
    if (numberFields.some((field) => tensor[field].length > 0) || tensor.segment)
      this.fail(`${what} has its numbers one by one or in segments; raw data is read alone`);
    if (tensor.dataLocation === DataLocation.DEFAULT) {
      if (tensor.externalData.length > 0)
        this.fail(`${what} names another file, but is said to lie in the model`);
      if (tensor.rawData.length !== bytes)
        this.fail(
          `${what} has ${tensor.rawData.length} bytes, but ${element.name} [${shape.join(', ')}] takes ${bytes}`,
        );
      return undefined;
    }
    if (tensor.rawData.length > 0) this.fail(`${what} lies both in the model and in another file`);
    await this.checkPlace(tensor, bytes, what);
    return bytes;
  }

  private async checkPlace({ externalData }: TensorProto, bytes: number, what: string): Promise<void> {
    const entries = new Map<string, string>();
    for (const { key, value } of externalData) {
      if (!['location', 'offset', 'length'].includes(key))
        this.fail(`${what} has the unknown entry ${quote(key)}`);
      if (entries.has(key)) this.fail(`${what} has the entry ${quote(key)} twice`);
      entries.set(key, value);
    }
    const location = entries.get('location');
    if (location === undefined) return this.fail(`${what} names no file`);
    if (!/^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_+=@.-]{0,254}$/u.test(location))
      this.fail(`${what} lies in ${quote(location)}, which is not the name of a file beside the model`);
    const natural = (key: string, absent: number): number => {
      const text = entries.get(key);
      if (text === undefined) return absent;
      const value = Number(text);
      if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(value))
        this.fail(`${what}: ${key} must be a whole number of bytes, not ${quote(text)}`);
      return value;
    };
    const size = await this.sizeOf(location, what);
    const offset = natural('offset', 0);
    const length = natural('length', size - offset);
    if (length !== bytes)
      this.fail(`${what} has ${length} bytes in ${quote(location)}, but its shape takes ${bytes}`);
    if (offset + length > size)
      this.fail(`${what} ends at byte ${offset + length} of ${quote(location)}, which has ${size}`);
  }

  private async sizeOf(location: string, what: string): Promise<number> {
    let size = this.sizes.get(location);
    if (!size) {
      size = this.measure(location, what);
      this.sizes.set(location, size);
    }
    return size;
  }

  private async measure(location: string, what: string): Promise<number> {
    try {
      // A link may lead anywhere; runtimes refuse those that leave the folder as well.
      const found = await lstat(join(dirname(this.path), location));
      if (!found.isFile())
        return this.fail(`${what} lies in ${quote(location)}, which is not a regular file`);
      return found.size;
    } catch (error) {
      if (error instanceof OnnxError) throw error;
      return this.fail(`${what} lies in ${quote(location)}, which cannot be read: ${explain(error)}`);
    }
  }

  private fail(reason: string): never {
    throw new OnnxError(this.path, reason);
  }
}
