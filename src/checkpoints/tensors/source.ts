/**
 * Tensors of a checkpoint, wherever they lie.
 * @module
 */
import type { ReadOptions, StoredArray, TensorExtent, TensorInfo } from '../safetensors/index.js';

/**
 * Tensors that are read when asked for, so that a model larger than memory can be opened. A `SafetensorsFile` is one.
 */
export interface TensorSource {
  /** Path for messages: a file, or a folder of shards. */
  readonly location: string;
  /** Tensors by name. A Map: a tensor may be called `__proto__`. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /**
   * Reads a tensor, or some of its rows, into a new array or the given one.
   * @throws SafetensorsError in one line that names the file and the tensor. No partly read array is returned.
   */
  read(name: string, options?: ReadOptions): Promise<StoredArray>;
  /** Where a tensor lies; undefined if there is none of this name, or it lies in no file as it is read. */
  extentOf?(name: string): TensorExtent | undefined;
  /** Closes all files. */
  close(): Promise<void>;
}
