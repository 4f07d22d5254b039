/**
 * Rounds matrices to 4 or 8 bits in blocks of 32, and back.
 * @module
 */
import { BLOCK_SIZE, type QuantisedMatrix } from '../../graph/index.js';

/** How a matrix lies in memory: `outIn` has the weights of one output beside each other. */
export type MatrixLayout = 'outIn' | 'inOut';

/** What {@link quantise} is told. */
export interface QuantiseOptions {
  readonly bits: 4 | 8;
  readonly outSize: number;
  readonly inSize: number;
  readonly layout: MatrixLayout;
  /**
   * `symmetric`: 0 stands for 0, and the scale takes the number of largest magnitude to the end of the range that has one
   * more (as in GGUF's Q4_0). `asymmetric`: the range runs from the smallest to the largest number, 0 included, at the cost
   * of a zero point for every block.
   */
  readonly mode: 'symmetric' | 'asymmetric';
}

/** Blocks of a row. */
const blocksOf = (inSize: number): number => Math.ceil(inSize / BLOCK_SIZE);

/** Bytes of zero points of a row. */
const zeroPointBytes = (inSize: number, bits: number): number => Math.ceil((blocksOf(inSize) * bits) / 8);

/**
 * Rounds a matrix to blocks. Each number is off by at most half a step of its block: `max |w| / 8` of 4 bits and
 * `max |w| / 128` of 8 when symmetric; where the largest magnitude is met on both sides, the one that the range does not
 * reach is off by a whole step.
 *
 * @param matrix `[outSize, inSize]` or `[inSize, outSize]`, as `layout` says
 * @throws RangeError if the matrix has another size or holds a number that is not finite.
 */
export function quantise(
  matrix: Float32Array,
  { bits, outSize, inSize, layout, mode }: QuantiseOptions,
): QuantisedMatrix {
  if (matrix.length !== outSize * inSize) {
    throw new RangeError(`quantise: ${matrix.length} numbers are not a matrix of ${outSize} × ${inSize}`);
  }
  const blocks = blocksOf(inSize);
  const blockBytes = (bits * BLOCK_SIZE) / 8;
  const values = new Uint8Array(outSize * blocks * blockBytes);
  const scales = new Float32Array(outSize * blocks);
  const zeroBytes = zeroPointBytes(inSize, bits);
  const zeroPoints = mode === 'asymmetric' ? new Uint8Array(outSize * zeroBytes) : undefined;
  const [outStride, inStride] = layout === 'outIn' ? [inSize, 1] : [1, outSize];
  const highest = 2 ** bits - 1;
  for (let block = 0; block < blocks; block++) {
    const first = block * BLOCK_SIZE;
    const count = Math.min(BLOCK_SIZE, inSize - first);
    for (let out = 0; out < outSize; out++) {
      const start = out * outStride + first * inStride;
      const { scale, zero } = rangeOf(matrix, start, inStride, count, bits, mode);
      const at = out * blocks + block;
      scales[at] = scale;
      if (zeroPoints) write(zeroPoints, out * zeroBytes, block, bits, zero);
      const factor = scale === 0 ? 0 : 1 / scales[at];
      for (let i = 0; i < BLOCK_SIZE; i++) {
        const value = i < count ? matrix[start + i * inStride] : 0;
        const rounded = Math.max(0, Math.min(highest, Math.round(value * factor) + zero));
        write(values, at * blockBytes, i, bits, rounded);
      }
    }
  }
  return { bits, outSize, inSize, values, scales, ...(zeroPoints && { zeroPoints }) };
}

/** The numbers that a rounded matrix stands for, in either layout. */
export function dequantise(matrix: QuantisedMatrix, layout: MatrixLayout): Float32Array {
  const { bits, outSize, inSize, values, scales, zeroPoints } = matrix;
  const blocks = blocksOf(inSize);
  const blockBytes = (bits * BLOCK_SIZE) / 8;
  const zeroBytes = zeroPointBytes(inSize, bits);
  const result = new Float32Array(outSize * inSize);
  const [outStride, inStride] = layout === 'outIn' ? [inSize, 1] : [1, outSize];
  for (let block = 0; block < blocks; block++) {
    const first = block * BLOCK_SIZE;
    const count = Math.min(BLOCK_SIZE, inSize - first);
    for (let out = 0; out < outSize; out++) {
      const at = out * blocks + block;
      const zero = zeroPoints ? read(zeroPoints, out * zeroBytes, block, bits) : 2 ** (bits - 1);
      const start = out * outStride + first * inStride;
      for (let i = 0; i < count; i++) {
        result[start + i * inStride] = scales[at] * (read(values, at * blockBytes, i, bits) - zero);
      }
    }
  }
  return result;
}

/** Scale and zero point of a block. */
function rangeOf(
  matrix: Float32Array,
  start: number,
  stride: number,
  count: number,
  bits: number,
  mode: QuantiseOptions['mode'],
): { scale: number; zero: number } {
  let [least, most] = [0, 0];
  for (let i = 0; i < count; i++) {
    const value = matrix[start + i * stride];
    if (value < least) least = value;
    else if (value > most) most = value;
    else if (!Number.isFinite(value)) throw new RangeError(`quantise: ${value} is not a finite number`);
  }
  if (!Number.isFinite(most - least))
    throw new RangeError('quantise: the matrix has numbers that are not finite');
  const middle = 2 ** (bits - 1);
  // The negative end of the range has one number more: the largest magnitude goes there, by a negative scale if need be.
  if (mode === 'symmetric') return { scale: (most > -least ? -most : -least) / middle, zero: middle };
  const scale = (most - least) / (2 ** bits - 1);
  return { scale, zero: scale === 0 ? middle : Math.round(-least / scale) };
}

/** Sets number `index` of those packed from byte `start` on, which was 0. */
function write(bytes: Uint8Array, start: number, index: number, bits: number, value: number): void {
  if (bits === 8) bytes[start + index] = value;
  else bytes[start + (index >> 1)] |= value << (4 * (index & 1));
}

function read(bytes: Uint8Array, start: number, index: number, bits: number): number {
  return bits === 8 ? bytes[start + index] : (bytes[start + (index >> 1)] >> (4 * (index & 1))) & 15;
}
