/**
 * Arrays for plain-loop references: written for reading, never for speed.
 * @module
 */

/** Numbers with a shape, in row-major order. */
export interface Nd {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

/** Row-major position of an index. */
function offsetOf(shape: readonly number[], index: readonly number[]): number {
  return shape.reduce((offset, size, axis) => offset * size + index[axis], 0);
}

/** Every index of a shape, in row-major order. */
export function* indices(shape: readonly number[]): Generator<number[]> {
  const total = shape.reduce((a, b) => a * b, 1);
  for (let flat = 0; flat < total; flat++) {
    const index: number[] = new Array<number>(shape.length);
    let rest = flat;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis] = rest % shape[axis];
      rest = Math.floor(rest / shape[axis]);
    }
    yield index;
  }
}

/** An array whose elements are a function of their index. */
export function tabulate(shape: readonly number[], value: (index: number[]) => number): Nd {
  return { shape, data: Float64Array.from(indices(shape), value) };
}

/** Element at an index, or where `index` has more axes or this array sizes of 1, the one that broadcasts there. */
export function at(array: Nd, index: readonly number[]): number {
  const own = index.slice(index.length - array.shape.length);
  return array.data[
    offsetOf(
      array.shape,
      own.map((i, axis) => (array.shape[axis] === 1 ? 0 : i)),
    )
  ];
}

/** The broadcast shape of several. */
export function broadcast(...shapes: readonly (readonly number[])[]): number[] {
  const rank = Math.max(...shapes.map((shape) => shape.length));
  return Array.from({ length: rank }, (_, axis) => {
    const sizes = shapes.map((shape) => shape[axis - rank + shape.length] ?? 1);
    return sizes.find((size) => size !== 1) ?? 1;
  });
}

/** A list with its element at `position` replaced. */
export function replaced(list: readonly number[], position: number, ...values: number[]): number[] {
  return [...list.slice(0, position), ...values, ...list.slice(position + 1)];
}
