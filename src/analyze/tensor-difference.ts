/**
 * What is different between the weights of two checkpoints, without ever holding more than one tensor of each.
 * @module
 */
import {
  decodableDTypes,
  readFloats,
  storedDTypes,
  type StoredDType,
  type TensorInfo,
  type TensorSource,
} from '../checkpoints/index.js';

/** One tensor that both have. */
export interface TensorDifference {
  readonly name: string;
  /** In the first and in the second. */
  readonly dtypes: readonly [StoredDType, StoredDType];
  readonly shapes: readonly [readonly number[], readonly number[]];
  /** Numbers that are not the same; all where the shapes differ. */
  readonly changed: number;
  /** Largest |a − b|; infinite where only one is a number. */
  readonly maxAbsolute: number;
  /** Mean of |a − b|. */
  readonly meanAbsolute: number;
  /** ‖a − b‖ / ‖a‖, or ‖b‖ if a is zero; 0 where both are. */
  readonly relative: number;
}

/** What two checkpoints have in common, and what not. */
export interface CheckpointDifference {
  readonly onlyFirst: readonly TensorInfo[];
  readonly onlySecond: readonly TensorInfo[];
  /** Tensors that differ in type, shape or any number, in the order of the first. */
  readonly changed: readonly TensorDifference[];
  /** Tensors that are the same. */
  readonly equal: number;
  /** Of the tensors as both present them. */
  readonly parameters: readonly [number, number];
}

/** Something with named tensors that are read as float32. */
export interface ComparedTensors {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Rows `[begin, end)` of the first axis, or all. */
  read(name: string, rows?: readonly [begin: number, end: number]): Promise<Float32Array>;
}

/** Stored tensors as they are called in the file; integers are compared as float32. */
export function storedTensors(source: TensorSource): ComparedTensors {
  return {
    tensors: source.tensors,
    read: (name, rows) => readFloats(source, name, { integers: true, ...(rows ? { rows } : {}) }),
  };
}

const floats = new Set<StoredDType>([...decodableDTypes, 'F64']);

/**
 * Compares two sets of tensors by name.
 * @param onProgress called after each common tensor.
 */
export async function compareTensors(
  first: ComparedTensors,
  second: ComparedTensors,
  onProgress?: (done: number, total: number) => void,
): Promise<CheckpointDifference> {
  const onlyIn = (a: ComparedTensors, b: ComparedTensors): TensorInfo[] =>
    [...a.tensors.values()].filter(({ name }) => !b.tensors.has(name));
  const common = [...first.tensors.values()].filter(({ name }) => second.tensors.has(name));
  const changed: TensorDifference[] = [];
  for (const [i, info] of common.entries()) {
    const difference = await compareTensor(first, second, info, second.tensors.get(info.name)!);
    if (difference) changed.push(difference);
    onProgress?.(i + 1, common.length);
  }
  const count = ({ tensors }: ComparedTensors): number =>
    [...tensors.values()].reduce((total, { shape }) => total + elements(shape), 0);
  return {
    onlyFirst: onlyIn(first, second),
    onlySecond: onlyIn(second, first),
    changed,
    equal: common.length - changed.length,
    parameters: [count(first), count(second)],
  };
}

async function compareTensor(
  first: ComparedTensors,
  second: ComparedTensors,
  a: TensorInfo,
  b: TensorInfo,
): Promise<TensorDifference | undefined> {
  const { name } = a;
  const sums = { changed: 0, maxAbsolute: 0, absolute: 0, squares: 0, before: 0, after: 0 };
  const size = elements(a.shape);
  const head = {
    name,
    dtypes: [a.dtype, b.dtype] as const,
    shapes: [a.shape, b.shape] as const,
  };
  const isReadable = (dtype: StoredDType): boolean => floats.has(dtype) || storedDTypes[dtype].bits >= 8;
  if (a.shape.join() !== b.shape.join() || !isReadable(a.dtype) || !isReadable(b.dtype))
    return { ...head, changed: size, maxAbsolute: Infinity, meanAbsolute: Infinity, relative: Infinity };
  // Row by row where rows are experts: a fused tensor need not fit into memory.
  const parts =
    a.shape.length > 2
      ? Array.from({ length: a.shape[0] }, (_, row) => [row, row + 1] as const)
      : [undefined];
  for (const rows of parts) {
    addDifference(sums, await first.read(name, rows), await second.read(name, rows));
  }
  if (sums.changed === 0 && a.dtype === b.dtype) return undefined;
  const norm = Math.sqrt(sums.before > 0 ? sums.before : sums.after);
  return {
    ...head,
    changed: sums.changed,
    maxAbsolute: sums.maxAbsolute,
    meanAbsolute: size === 0 ? 0 : sums.absolute / size,
    relative: norm === 0 ? 0 : Math.sqrt(sums.squares) / norm,
  };
}

function addDifference(
  sums: {
    changed: number;
    maxAbsolute: number;
    absolute: number;
    squares: number;
    before: number;
    after: number;
  },
  a: Float32Array,
  b: Float32Array,
): void {
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i], b[i]];
    sums.before += x * x;
    sums.after += y * y;
    if (Object.is(x, y) || x === y) continue;
    sums.changed++;
    const distance = Math.abs(x - y);
    const gap = Number.isNaN(distance) ? Infinity : distance;
    if (gap > sums.maxAbsolute) sums.maxAbsolute = gap;
    sums.absolute += gap;
    sums.squares += gap * gap;
  }
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
