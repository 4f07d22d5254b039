/**
 * Rotation of feature pairs by an angle per position (rotary position embedding, arXiv 2104.09864 §3.4).
 * @module
 */
import { applyOne, type Operator } from '../operator.js';
import { ShapeError, sameShape, type Tensor } from '../tensor.js';
import { add, multiply, negate, subtract } from './arithmetic.js';
import { concat } from './joining.js';
import { reshape, slice } from './shape.js';

const rotateOperator: Operator = {
  name: 'rotatePairs',
  lower: ({ emit, constant, inputs, outputs, node }) => {
    const [x] = node.inputs;
    const time = x.shape[2] as number;
    const batch = x.shape[0] as number;
    const positions = Array.from({ length: batch * time }, (_, i) => i % time);
    const ids = constant('int64', [batch, time], positions);
    const interleaved = node.attributes['interleaved'] ? 1 : 0;
    emit(
      'RotaryEmbedding',
      [inputs[0], ids, inputs[1], inputs[2]],
      { interleaved },
      { outputs, domain: 'com.microsoft' },
    );
  },
  gradient: ([gradient], { inputs: [, cosine, sine], attributes }) => [
    // A rotation's inverse is its transpose: the same rotation by the negative angle.
    rotatePairs(gradient!, cosine, negate(sine), { interleaved: attributes['interleaved'] as boolean }),
  ],
};

/**
 * Rotates each pair of features of `x` by the angle of its position. The tables are constants: they get no gradient.
 *
 * @param x `[batch, heads, time, headSize]`, all static, headSize even
 * @param cosine `[time, headSize / 2]`
 * @param sine `[time, headSize / 2]`
 * @param options `interleaved`: pairs are (0,1), (2,3) … as in the paper; by default they are (i, i + headSize/2) as in
 *   GPT-NeoX and Hugging Face's Llama.
 * @throws ShapeError if the tables do not fit.
 */
export function rotatePairs(x: Tensor, cosine: Tensor, sine: Tensor, { interleaved = false } = {}): Tensor {
  const [batch, heads, time, size] = x.shape;
  const half = typeof size === 'number' ? size / 2 : NaN;
  const fits =
    x.rank === 4 &&
    [batch, heads, time, half].every(Number.isInteger) &&
    sameShape(cosine.shape, [time, half]);
  if (!fits || !sameShape(sine.shape, cosine.shape)) {
    throw new ShapeError(
      `rotatePairs: ${x.toString()} does not fit tables ${cosine.toString()} and ${sine.toString()}`,
    );
  }
  if (x.dtype === 'float32') return applyOne(rotateOperator, [x, cosine, sine], x, { interleaved });
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
