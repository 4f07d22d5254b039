/**
 * Why a safetensors file was refused.
 * @module
 */

/**
 * | code | meaning |
 * |---|---|
 * | `open` | the file cannot be opened, or is not a regular file |
 * | `header-size` | no room for a header, or its length is 0, above the limit or beyond the end of the file |
 * | `utf8` | the header is not UTF-8 |
 * | `json` | the header is not JSON of the form that safetensors has |
 * | `duplicate` | a key occurs twice |
 * | `metadata` | `__metadata__` is not a map from string to string |
 * | `entry` | an entry lacks a field, or has one that does not exist |
 * | `dtype` | an element type that does not exist |
 * | `shape` | a size that is not a whole number, too many sizes, or too many elements |
 * | `offsets` | offsets that are not whole numbers, are reversed, overlap or leave a hole |
 * | `span` | the offsets do not span shape × element size |
 * | `file-size` | the file ends before or after its last tensor |
 * | `changed` | the file was changed or cut short while it was open |
 * | `read`, `write` | the system failed to read or write |
 * | `missing` | no tensor has this name |
 * | `target` | the given array does not fit the tensor |
 * | `memory` | the tensor is larger than a typed array can be |
 * | `tensor` | a tensor to write contradicts itself, or its name is taken |
 * | `index` | an index of shards that is not of the form that Hugging Face writes, or contradicts itself |
 * | `shard` | a shard lies outside the folder, is missing, or does not hold the tensors that the index says |
 * | `exists` | weights would be written over others |
 * | `convert` | the element type cannot be turned into the wanted one |
 */
export type SafetensorsErrorCode =
  | 'open'
  | 'header-size'
  | 'utf8'
  | 'json'
  | 'duplicate'
  | 'metadata'
  | 'entry'
  | 'dtype'
  | 'shape'
  | 'offsets'
  | 'span'
  | 'file-size'
  | 'changed'
  | 'read'
  | 'write'
  | 'missing'
  | 'target'
  | 'memory'
  | 'tensor'
  | 'index'
  | 'shard'
  | 'exists'
  | 'convert';

/** A safetensors file that cannot be read or written; the message is one line that names the file and the tensor. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';

  constructor(
    readonly code: SafetensorsErrorCode,
    /** Path of the file. */
    readonly file: string,
    reason: string,
    options?: ErrorOptions,
  ) {
    super(`${file}: ${reason}`, options);
  }
}

/** A name as it may appear in a message or a log: quoted, one line, no control characters, at most about 100 long. */
export function quote(name: string): string {
  const short = name.length > 100 ? `${name.slice(0, 100)}…` : name;
  return JSON.stringify(short).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
