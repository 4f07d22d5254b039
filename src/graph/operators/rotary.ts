/**
 * Rotation of feature pairs by an angle per position (rotary position embedding, arXiv 2104.09864 §3.4).
 * @module
 */
import { applyOne, type Operator } from '../operator.js';
import { ShapeError, sameShape, type Tensor } from '../tensor.js';
import { add, cast, multiply, negate, subtract } from './arithmetic.js';
import { gather } from './indexing.js';
import { concat } from './joining.js';
import { reshape, slice } from './shape.js';

const rotateOperator: Operator = {
  name: 'rotatePairs',
  lower: ({ emit, constant, inputs, outputs, node }) => {
    const [x] = node.inputs;
    const time = x.shape[2] as number;
    const batch = x.shape[0] as number;
    const inOrder = Array.from({ length: batch * time }, (_, i) => i % time);
    const ids = inputs[3] ?? constant('int64', [batch, time], inOrder);
    const interleaved = node.attributes['interleaved'] ? 1 : 0;
    emit(
      'RotaryEmbedding',
      [inputs[0], ids, inputs[1], inputs[2]],
      { interleaved },
      { outputs, domain: 'com.microsoft' },
    );
  },
  gradient: ([gradient], { inputs: [, cosine, sine, positions], attributes }) => [
    // A rotation's inverse is its transpose: the same rotation by the negative angle.
    rotatePairs(gradient!, cosine, negate(sine), {
      interleaved: attributes['interleaved'] as boolean,
      positions,
    }),
  ],
};

/** Settings of {@link rotatePairs}. */
export interface RotationOptions {
  /**
   * Pairs are (0,1), (2,3) … as in the paper; by default they are (i, i + headSize/2) as in GPT-NeoX and Hugging Face's
   * Llama.
   */
  readonly interleaved?: boolean;
  /** Integers `[batch, time]`: the row of the tables for each token; 0 … time − 1 when absent. */
  readonly positions?: Tensor | undefined;
}

/**
 * Rotates each pair of features of `x` by the angle of its position. The tables are constants: they get no gradient.
 *
 * @param x `[batch, heads, time, headSize]`, all static, headSize even
 * @param cosine `[time, headSize / 2]`; any number of rows where positions are given
 * @param sine as `cosine`
 * @throws ShapeError if the tables or positions do not fit.
 */
export function rotatePairs(
  x: Tensor,
  cosine: Tensor,
  sine: Tensor,
  { interleaved = false, positions }: RotationOptions = {},
): Tensor {
  const [batch, heads, time, size] = x.shape;
  const half = typeof size === 'number' ? size / 2 : NaN;
  const rows = positions ? cosine.shape[0] : time;
  const fits =
    x.rank === 4 &&
    [batch, heads, time, half].every(Number.isInteger) &&
    sameShape(cosine.shape, [rows, half]);
  if (!fits || !sameShape(sine.shape, cosine.shape)) {
    throw new ShapeError(
      `rotatePairs: ${x.toString()} does not fit tables ${cosine.toString()} and ${sine.toString()}`,
    );
  }
  if (positions && !sameShape(positions.shape, [batch, time])) {
    throw new ShapeError(`rotatePairs: positions ${positions.toString()} are not those of ${x.toString()}`);
  }
  if (x.dtype === 'float32') {
    const chosen = positions ? [cast(positions, 'int64')] : [];
    return applyOne(rotateOperator, [x, cosine, sine, ...chosen], x, { interleaved });
  }
  if (positions) {
    const rowsOf = (table: Tensor): Tensor => reshape(gather(table, positions), [batch, 1, time, half]);
    return rotateByTables(x, rowsOf(cosine), rowsOf(sine), interleaved);
  }
  return rotateByTables(x, cosine, sine, interleaved);
}

/** The same of elementwise operators, for double precision. Tables broadcast against `[batch, heads, time, half]`. */
function rotateByTables(x: Tensor, cosine: Tensor, sine: Tensor, interleaved: boolean): Tensor {
  const [batch, heads, time, size] = x.shape as [number, number, number, number];
  const half = size / 2;
  const pairs = interleaved ? reshape(x, [batch, heads, time, half, 2]) : x;
  const [first, second] = interleaved
    ? [0, 1].map((i) => reshape(slice(pairs, 4, i, i + 1), [batch, heads, time, half]))
    : [slice(x, 3, 0, half), slice(x, 3, half, 2 * half)];
  const a = subtract(multiply(first, cosine), multiply(second, sine));
  const b = add(multiply(second, cosine), multiply(first, sine));
  if (!interleaved) return concat([a, b], 3);
  const open = [batch, heads, time, half, 1];
  return reshape(concat([reshape(a, open), reshape(b, open)], 4), x.shape);
}
