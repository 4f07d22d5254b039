/**
 * Rotations of pairs of rows in WebAssembly SIMD: nearly all the time of an eigenvalue problem with its vectors.
 * @module
 */
import { compileFunctions, FlatMemory, instructions } from '../runtime/index.js';

/** Bytes of two float64. */
const REGISTER = 16;

/** Rows of float64 that can be rotated in pairs. */
export interface RotatableRows {
  /** `[rows, columns]`, each row at a multiple of `stride` numbers. */
  readonly numbers: Float64Array;
  readonly stride: number;
  /** Row `first` becomes `cosine · first − sine · next`, the row after it `sine · first + cosine · next`. */
  rotate(first: number, cosine: number, sine: number): void;
}

/**
 * Zeros, in memory of their own.
 * @throws RangeError if they exceed what WebAssembly addresses or the system gives.
 */
export function rotatableRows(rows: number, columns: number): RotatableRows {
  const stride = columns + (columns % 2);
  const memory = FlatMemory.reserve(2 * rows * stride);
  if (!memory.memory) throw new RangeError(`no memory for ${rows} × ${columns} numbers in one piece`);
  const { buffer, byteOffset } = memory.take(2 * rows * stride);
  const { get, set, load, store, until, advance } = instructions;
  const { f64x2Splat, f64x2Multiply, f64x2Add, f64x2Subtract } = instructions;
  const [first, end, next, cosine, sine, cosines, sines, x, y] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const times = (factor: number, value: number): number[] => [
    ...get(factor),
    ...get(value),
    ...f64x2Multiply,
  ];
  const { rotate } = compileFunctions(
    {
      rotate: {
        parameters: ['i32', 'i32', 'i32', 'f64', 'f64'],
        locals: ['v128', 'v128', 'v128', 'v128'],
        body: [
          ...[...get(cosine), ...f64x2Splat, ...set(cosines), ...get(sine), ...f64x2Splat, ...set(sines)],
          ...until(first, end, [
            ...[...get(first), ...load(), ...set(x), ...get(next), ...load(), ...set(y)],
            ...[...get(next), ...times(sines, x), ...times(cosines, y), ...f64x2Add, ...store()],
            ...[...get(first), ...times(cosines, x), ...times(sines, y), ...f64x2Subtract, ...store()],
            ...[...advance(first, REGISTER), ...advance(next, REGISTER)],
          ]),
        ],
      },
    },
    memory.memory,
  );
  const bytes = stride * 8;
  return {
    numbers: new Float64Array(buffer, byteOffset, rows * stride),
    stride,
    rotate: (row, c, s) => {
      const start = byteOffset + row * bytes;
      rotate(start, start + bytes, start + bytes, c, s);
    },
  };
}
