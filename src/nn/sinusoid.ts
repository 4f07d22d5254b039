/**
 * Fixed sinusoids for absolute positions.
 * @module
 */
import { constant, type DType, type Tensor } from '../graph/index.js';

/**
 * `[time, size]`: sines in the first half of the columns, cosines in the second, with wavelengths in a geometric series
 * from 2π to `base` · 2π (Transformer, arXiv 1706.03762 §3.5, with the columns in the order of Tensor2Tensor and fairseq).
 *
 * @throws RangeError if size is odd.
 */
export function sinusoids(time: number, size: number, dtype: DType, base = 10_000): Tensor {
  if (size % 2 !== 0) throw new RangeError(`sinusoidal positions need an even width, not ${size}`);
  const half = size / 2;
  const table = Float64Array.from({ length: time * size }, (_, at) => {
    const column = at % size;
    const angle = Math.floor(at / size) * Math.pow(base, -(column % half) / Math.max(half - 1, 1));
    return column < half ? Math.sin(angle) : Math.cos(angle);
  });
  return constant(dtype, [time, size], table);
}
