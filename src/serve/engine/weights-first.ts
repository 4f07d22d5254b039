/**
 * Products of a few rows with a weight, written so that the weight is the left factor.
 * @module
 */
import { inputName, matmul, reshape, rewrite, transpose, type Tensor } from '../../graph/index.js';

/** Rows up to which it pays (docs/performance.md, one token through its experts). */
const MOST_ROWS = 64;

/**
 * Replaces `x Wᵀ` by `(W xᵀ)ᵀ` where W is a weight `[out, in]` and x has at most 64 rows: ONNX Runtime reads a left factor
 * as it lies, and copies a right one to another order first. Numbers change within rounding.
 * @param isWeight whether a feed is a weight
 */
export function weightsFirst<Names extends string>(
  outputs: Readonly<Record<Names, Tensor>>,
  isWeight: (feed: string) => boolean,
): Record<Names, Tensor> {
  return rewrite(outputs, ({ operator, attributes }, [x, weight]) => {
    if (operator.name !== 'matmul' || x.rank !== 2 || weight.rank !== 2) return undefined;
    const { transposeA, transposeB, scale } = attributes;
    const name = inputName(weight);
    if (name === undefined || !isWeight(name) || transposeA || !transposeB || scale !== 1) return undefined;
    const [rows, inSize] = x.shape;
    if (typeof rows !== 'number' || rows > MOST_ROWS) return undefined;
    const outSize = weight.shape[0];
    if (rows === 1) return [reshape(matmul(weight, reshape(x, [inSize, 1])), [1, outSize])];
    // Of rank 3, so that it is no Gemm: ONNX Runtime would merge that with the transpose and turn it back.
    const columns = reshape(transpose(x, [1, 0]), [1, inSize, rows]);
    return [reshape(transpose(matmul(weight, columns), [0, 2, 1]), [rows, outSize])];
  });
}
