/**
 * A product with a constant matrix of 4- or 8-bit numbers in blocks, each with a scale of its own.
 * @module
 */
import { applyOne, type Operator } from '../operator.js';
import { ShapeError, type Tensor } from '../tensor.js';

/** Numbers that have one scale (and one zero point) together. */
export const BLOCK_SIZE = 32;

/**
 * A matrix `[outSize, inSize]` cut into blocks along its rows, as ONNX Runtime's `MatMulNBits` takes it: number q of a block
 * stands for `scale · (q − zeroPoint)`. The last block of a row is filled up where `inSize` is not a multiple of 32.
 */
export interface QuantisedMatrix {
  readonly bits: 4 | 8;
  readonly outSize: number;
  readonly inSize: number;
  /** `[outSize, blocks, 4 · bits]`: 32 numbers a block, of 4-bit ones two in a byte, the first in the lower half. */
  readonly values: Uint8Array;
  /** `[outSize, blocks]` */
  readonly scales: Float32Array;
  /** `[outSize, blocks]`, of 4-bit ones two in a byte and each row a whole number of bytes; 2^(bits − 1) everywhere when absent. */
  readonly zeroPoints?: Uint8Array;
}

/**
 * What the rows are multiplied as: `int8` rounds each block of 32 numbers of a row to 8 bits first, which is several times
 * as fast; `float32` leaves them as they are.
 */
export type QuantisedPrecision = 'int8' | 'float32';

/** `accuracy_level` of `MatMulNBits`. */
const accuracyLevels: Readonly<Record<QuantisedPrecision, number>> = { float32: 1, int8: 4 };

const quantisedMatmulOperator: Operator = {
  name: 'quantisedMatmul',
  lower: ({ emit, inputs, outputs, node, constant }) => {
    const { bits, outSize, inSize, values, scales, zeroPoints, precision } = node.attributes as Attributes;
    const blocks = Math.ceil(inSize / BLOCK_SIZE);
    const weight = [
      constant('uint8', [outSize, blocks, (bits * BLOCK_SIZE) / 8], values),
      constant('float32', [outSize, blocks], scales),
      ...(zeroPoints ? [constant('uint8', [outSize, zeroPoints.length / outSize], zeroPoints)] : []),
    ];
    const attributes = {
      K: inSize,
      N: outSize,
      bits,
      block_size: BLOCK_SIZE,
      accuracy_level: accuracyLevels[precision],
    };
    emit('MatMulNBits', [...inputs, ...weight], attributes, { outputs, domain: 'com.microsoft' });
  },
};

type Attributes = QuantisedMatrix & { readonly precision: QuantisedPrecision } & Record<string, unknown>;

/**
 * `x Wᵀ` with the constant W: `[..., inSize]` → `[..., outSize]`. Not differentiable.
 *
 * W becomes a constant of the program because ONNX Runtime rearranges it once, when the program is compiled; fed as an
 * input it would be 20 times as slow.
 * @throws ShapeError if x does not fit, or the parts of W do not fit each other.
 */
export function quantisedMatmul(
  x: Tensor,
  weight: QuantisedMatrix,
  precision: QuantisedPrecision = 'int8',
): Tensor {
  const { bits, outSize, inSize, values, scales, zeroPoints } = weight;
  const blocks = Math.ceil(inSize / BLOCK_SIZE);
  const describe = `${outSize} × ${inSize} matrix of ${bits} bits`;
  if (x.dtype !== 'float32' || x.rank < 1 || x.shape.at(-1) !== inSize) {
    throw new ShapeError(`quantisedMatmul: ${x.toString()} does not fit a ${describe}`);
  }
  const sizes: readonly [string, number, number | undefined][] = [
    ['values', outSize * blocks * ((bits * BLOCK_SIZE) / 8), values.length],
    ['scales', outSize * blocks, scales.length],
    ['zeroPoints', outSize * Math.ceil((blocks * bits) / 8), zeroPoints?.length],
  ];
  for (const [name, expected, length] of sizes) {
    if (length !== undefined && length !== expected) {
      throw new ShapeError(`quantisedMatmul: a ${describe} has ${expected} ${name}, not ${length}`);
    }
  }
  const shape = [...x.shape.slice(0, -1), outSize];
  const type = { dtype: x.dtype, shape };
  return applyOne(quantisedMatmulOperator, [x], type, { ...weight, precision });
}
