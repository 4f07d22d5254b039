/**
 * Matrix products.
 * @module
 */
import { applyOne, type Lowering, type Operator } from '../operator.js';
import { ShapeError, broadcastShapes, isFloat, type Dim, type Tensor } from '../tensor.js';
import { sumTo } from './arithmetic.js';

/** Transposes of the last two axes, and a factor on the product; none of them costs a pass over memory. */
export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
  readonly scale?: number;
}

type Settings = Required<MatmulOptions> & Record<string, unknown>;

function lower(lowering: Lowering): void {
  const { emit, outputs, node, constant, shapeVector } = lowering;
  const [a] = node.inputs;
  const [output] = node.outputs;
  const inner = lastTwo(a, (node.attributes as Settings).transposeA)[1];
  // Batches of empty matrices go wrong in ONNX Runtime's FusedMatMul, into which it also turns Transpose and MatMul:
  // over an empty inner axis it writes zeros to the first batch only, and empty results get another batch size.
  const zero = (): string => constant(a.dtype, [], [0]);
  if (inner === 0 || output.shape.includes(0)) {
    emit('Expand', [zero(), shapeVector(output.shape)], {}, { outputs });
    return;
  }
  if (output.rank === 2 || typeof inner === 'number') {
    lowerProduct(lowering, outputs);
    return;
  }
  const product = `${outputs[0]}/product`;
  lowerProduct(lowering, [product]);
  const filled = emit('Greater', [shapeVector([inner]), constant('int64', [1], [0])]);
  emit('Where', [filled, product, zero()], {}, { outputs });
}

function lowerProduct({ emit, inputs, node, constant }: Lowering, outputs: readonly string[]): void {
  const { transposeA, transposeB, scale } = node.attributes as Settings;
  const [a, b] = node.inputs;
  // Gemm keeps its factor in single precision.
  if (a.rank === 2 && b.rank === 2 && (a.dtype === 'float32' || scale === 1)) {
    const attributes = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: scale } };
    emit('Gemm', inputs, attributes, { outputs });
    return;
  }
  if (a.dtype === 'float32' && (transposeA || transposeB || scale !== 1)) {
    const attributes = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: scale } };
    emit('FusedMatMul', inputs, attributes, { outputs, domain: 'com.microsoft' });
    return;
  }
  const swapped = (name: string, rank: number): string => {
    const perm = Array.from({ length: rank }, (_, axis) => axis);
    [perm[rank - 2], perm[rank - 1]] = [rank - 1, rank - 2];
    return emit('Transpose', [name], { perm });
  };
  const left = transposeA ? swapped(inputs[0], a.rank) : inputs[0];
  const right = transposeB ? swapped(inputs[1], b.rank) : inputs[1];
  if (scale === 1) emit('MatMul', [left, right], {}, { outputs });
  else emit('Mul', [emit('MatMul', [left, right]), constant(a.dtype, [], [scale])], {}, { outputs });
}

const matmulOperator: Operator = {
  name: 'matmul',
  lower,
  gradient: ([gradient], { inputs: [a, b], attributes }) => {
    const { transposeA, transposeB, scale } = attributes as Settings;
    const g = gradient!;
    const forA = transposeA
      ? matmul(b, g, { transposeA: transposeB, transposeB: true, scale })
      : matmul(g, b, { transposeB: !transposeB, scale });
    const forB = transposeB
      ? matmul(g, a, { transposeA: true, transposeB: transposeA, scale })
      : matmul(a, g, { transposeA: !transposeA, scale });
    return [sumTo(forA, a.shape), sumTo(forB, b.shape)];
  },
};

/**
 * `scale · A B` over the last two axes, batched and broadcast over the others, with A or B read transposed.
 *
 * @param a `[..., m, k]` (or `[..., k, m]` with `transposeA`)
 * @param b `[..., k, n]` (or `[..., n, k]` with `transposeB`)
 * @returns `[..., m, n]`
 * @throws ShapeError naming both shapes if the inner sizes differ, a rank is below 2, or the dtypes differ.
 * @example
 * const scores = matmul(query, key, { transposeB: true, scale: 1 / Math.sqrt(headSize) });
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, scale = 1 } = options;
  const describe = `${a.toString()}${transposeA ? 'ᵀ' : ''} and ${b.toString()}${transposeB ? 'ᵀ' : ''}`;
  if (a.rank < 2 || b.rank < 2) throw new ShapeError(`matmul: ${describe} must both have rank 2 or more`);
  if (a.dtype !== b.dtype || !isFloat(a.dtype)) throw new ShapeError(`matmul: ${describe} have unfit dtypes`);
  const [rows, innerA] = lastTwo(a, transposeA);
  const [innerB, columns] = lastTwo(b, transposeB);
  if (innerA !== innerB) throw new ShapeError(`matmul: inner sizes of ${describe} differ`);
  const batch = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2));
  const shape = [...batch, rows, columns];
  return applyOne(
    matmulOperator,
    [a, b],
    { dtype: a.dtype, shape },
    {
      transposeA,
      transposeB,
      scale,
    },
  );
}

function lastTwo(x: Tensor, transposed: boolean): [Dim, Dim] {
  const [first, second] = x.shape.slice(-2) as [Dim, Dim];
  return transposed ? [second, first] : [first, second];
}
