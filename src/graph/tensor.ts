/**
 * Symbolic tensors. A {@link Tensor} is a dtype, a shape and the operation that made it; it holds no numbers.
 * The graph is just the tensors: there is no tape and no global state.
 * @module
 */
import type { Operator } from './operator.js';

/** Element types. `int32` exists for feeds and fetches (ids); arithmetic on integers is `int64`. */
export type DType = 'float32' | 'float64' | 'int32' | 'int64' | 'bool';

/** A static size, or the name of a size that is known only at run time. Two named sizes are equal iff their names are. */
export type Dim = number | string;

/** Sizes of all axes, outermost first. */
export type Shape = readonly Dim[];

/** What a tensor is before it has a maker. */
export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** One application of an operator: an edge bundle from its input tensors to its output tensors. */
export interface Node {
  readonly operator: Operator;
  readonly inputs: readonly Tensor[];
  readonly attributes: Attributes;
  readonly outputs: readonly Tensor[];
}

/** Constant settings of a node. They take part in the merging of equal subgraphs, so they are plain data. */
export type Attributes = Readonly<Record<string, unknown>>;

/** A symbolic tensor: output `index` of `node`. */
export class Tensor implements TensorType {
  constructor(
    readonly node: Node,
    readonly index: number,
    readonly dtype: DType,
    readonly shape: Shape,
  ) {}

  /** Number of axes. */
  get rank(): number {
    return this.shape.length;
  }

  /** Readable form for error messages, such as `float32[batch, 4, 64]`. */
  toString(): string {
    return `${this.dtype}${formatShape(this.shape)}`;
  }
}

/** Thrown where an operator is written with operands that do not fit; the message names the operator and all shapes. */
export class ShapeError extends Error {
  override readonly name = 'ShapeError';
}

/** `[batch, 4, 64]` */
export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** Whether a number can be the size of an axis. */
export function isSize(value: number): boolean {
  return Number.isInteger(value) && value >= 0;
}

/**
 * Refuses sizes that are not whole numbers ≥ 0, and names that could be mistaken for one.
 * @throws ShapeError naming the shape.
 */
export function checkShape(what: string, shape: Shape): void {
  for (const dim of shape) {
    if (typeof dim === 'number' ? !isSize(dim) : dim === '' || !Number.isNaN(Number(dim))) {
      throw new ShapeError(
        `${what}: ${formatShape(shape)} has '${dim}', which is neither a whole number ≥ 0 nor a name`,
      );
    }
  }
}

/** Whether a dtype has gradients. */
export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64';
}

/** Whether two shapes are the same: static sizes by value, run-time sizes by name. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/**
 * Number of elements of a static shape.
 * @throws ShapeError if a dim is named.
 */
export function sizeOf(shape: Shape): number {
  return shape.reduce<number>((product, dim) => {
    if (typeof dim !== 'number')
      throw new ShapeError(`size of ${formatShape(shape)} is known only at run time`);
    return product * dim;
  }, 1);
}

/**
 * Turns a possibly negative axis into 0 … rank − 1.
 * @throws ShapeError if it is outside.
 */
export function normalizeAxis(operator: string, axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(normalized) || normalized < 0 || normalized >= rank) {
    throw new ShapeError(`${operator}: axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return normalized;
}

/**
 * Shape of an elementwise operation. Only a literal 1 stretches; named dims match by name.
 * @throws ShapeError naming both shapes.
 */
export function broadcastShapes(operator: string, a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  const result: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const left = a[i - rank + a.length] ?? 1;
    const right = b[i - rank + b.length] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw new ShapeError(`${operator}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
    }
    result.push(left === 1 ? right : left);
  }
  return result;
}
