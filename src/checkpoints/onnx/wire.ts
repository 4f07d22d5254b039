/**
 * Looks over the bytes of an ONNX model before the protobuf library makes objects of them.
 *
 * Two bytes can stand for an empty message, which becomes an object of hundreds: a file of ten megabytes could ask for
 * gigabytes. Here fields are only counted, with the library's own description of the format.
 * @module
 */
import { ScalarType, type DescField, type DescMessage } from '@bufbuild/protobuf';
import { ModelProtoSchema } from 'onnx-buf';
import { OnnxError } from './errors.js';

/** Messages in messages; graphs in graphs take three each. */
const MAX_DEPTH = 32;
/** Messages of a model, such as nodes, attributes and constants. */
const MAX_MESSAGES = 1_000_000;
/** Numbers and strings that become one value each, such as sizes and names. Raw data is one. */
const MAX_VALUES = 10_000_000;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

/**
 * Checks that bytes are a model of known fields, bounded depth and bounded size in memory.
 * @param file path for messages.
 * @throws OnnxError
 */
export function checkWire(bytes: Uint8Array, file: string): void {
  new Walk(bytes, file).message(ModelProtoSchema, 0, bytes.length, 0);
}

const fieldsOf = new Map<DescMessage, ReadonlyMap<number, DescField>>();

function fieldOf(type: DescMessage, number: number): DescField | undefined {
  let fields = fieldsOf.get(type);
  if (!fields) {
    fields = new Map(type.fields.map((field) => [field.number, field]));
    fieldsOf.set(type, fields);
  }
  return fields.get(number);
}

class Walk {
  private at = 0;
  private messages = 0;
  private values = 0;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly file: string,
  ) {}

  message(type: DescMessage, start: number, end: number, depth: number): void {
    if (depth > MAX_DEPTH) this.fail(`messages lie more than ${MAX_DEPTH} deep`);
    if (++this.messages > MAX_MESSAGES) this.fail(`has more than ${MAX_MESSAGES} messages`);
    this.at = start;
    while (this.at < end) {
      const tag = this.varint(end);
      const number = Math.floor(tag / 8);
      const field = fieldOf(type, number);
      if (!field) return this.fail(`${type.name} has no field ${number}`);
      this.field(type, field, tag % 8, end, depth);
    }
  }

  private field(type: DescMessage, field: DescField, wireType: number, end: number, depth: number): void {
    switch (wireType) {
      case VARINT:
        this.varint(end);
        return this.count(1);
      case FIXED64:
      case FIXED32:
        this.skip(wireType === FIXED64 ? 8 : 4, end);
        return this.count(1);
      case BYTES: {
        const length = this.varint(end);
        const start = this.at;
        this.skip(length, end);
        if (field.message) {
          this.message(field.message, start, start + length, depth + 1);
          this.at = start + length;
        } else this.count(isPacked(field) ? length : 1);
        return;
      }
      default:
        this.fail(`${type.name}.${field.name} has the wire type ${wireType}`);
    }
  }

  private count(values: number): void {
    this.values += values;
    if (this.values > MAX_VALUES) this.fail(`has more than ${MAX_VALUES} values outside of raw data`);
  }

  private skip(length: number, end: number): void {
    if (length > end - this.at)
      this.fail(`a field of ${length} bytes does not fit into the ${end - this.at} that are left`);
    this.at += length;
  }

  /** An unsigned number of up to ten bytes; large ones are rounded, which is enough to refuse them as lengths. */
  private varint(end: number): number {
    let value = 0;
    for (let i = 0; i < 10; i++) {
      if (this.at >= end) return this.fail('ends inside a number');
      const byte = this.bytes[this.at++];
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    return this.fail('has a number of more than ten bytes');
  }

  private fail(reason: string): never {
    throw new OnnxError(this.file, `is not an ONNX model: ${reason} (byte ${this.at})`);
  }
}

/** Whether the bytes of a field are many numbers; they may come packed whether or not the format says so. */
function isPacked(field: DescField): boolean {
  if (field.fieldKind !== 'list') return false;
  const { listKind, scalar } = field;
  return (
    listKind === 'enum' ||
    (listKind === 'scalar' && scalar !== ScalarType.STRING && scalar !== ScalarType.BYTES)
  );
}
