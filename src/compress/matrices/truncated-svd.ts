/**
 * Truncated singular value decomposition: the best factors of a given rank (ResMoE, §5 of its spec).
 * @module
 */
import { concat, input, matmul, square, subtract, sum } from '../../graph/index.js';
import { streamKey } from '../../nn/index.js';
import type { CompressedMatrix } from '../../checkpoints/index.js';
import { energyOf } from '../align.js';
import type { DesignMatrix, MatrixCompressor, Scope, SmallMatrix } from '../matrix-compressor.js';
import { takeColumns } from './columns.js';
import { Products } from './products.js';
import { topEigenvectors } from './top-eigenvectors.js';

/** The search ends where the error is proved to exceed the best by no more than this part of it: 1e-3 is promised. */
const TOLERANCE = 8e-4;

/**
 * Where the best factors leave less than this part of a matrix (as lengths, not squares), the error is held against this
 * part instead: float32 does not resolve more.
 */
const RESOLUTION = 0.01;

/** What rounding may take from the sums of eigenvalues, as a part of the energy. */
const ROUNDING = 2 ** -23;

/** An error above this part of the energy is a difference that float32 resolves well. */
const LARGE_ERROR = 0.1;

/**
 * M ≈ U V with the singular values in one of them: for each matrix the best of rank `r = ⌊ratio · p · m / (p + m)⌋`, so
 * that both factors together store at most the ratio. A ratio of 1 stores the matrix itself, which no smaller factors
 * could do without loss.
 *
 * `concat` has one U for a whole expert, `sep` factors for each weight matrix; biases, which are single columns, are then
 * kept as they are and paid for by the matrices.
 */
export class TruncatedSvd implements MatrixCompressor {
  private readonly products = new Products();

  constructor(private readonly scope: Scope) {}

  async compress({ rows, blocks, values }: DesignMatrix, ratio: number, seed: number): Promise<SmallMatrix> {
    if (!values.every(Number.isFinite))
      throw new RangeError('a weight is not a finite number: it cannot be compressed');
    if (this.scope === 'concat' || ratio === 1)
      return this.factorize(rows, values.length / rows, values, ratio, seed);
    const biases = blocks.filter(({ width }) => width === 1).length;
    const columns = values.length / rows;
    // Of the numbers that may be stored, biases take theirs first.
    const rest = (ratio * columns - biases) / (columns - biases);
    const parts: SmallMatrix[] = [];
    let start = 0;
    for (const { width, role } of blocks) {
      const part = takeColumns(values, rows, start, width);
      start += width;
      parts.push(
        width === 1
          ? kept(rows, 1, part)
          : await this.factorize(rows, width, part, rest, streamKey(seed, role)),
      );
    }
    const excesses = parts.flatMap(({ truncationExcess }) => truncationExcess ?? []);
    return {
      matrices: parts.flatMap(({ matrices }) => matrices),
      error: parts.reduce((total, { error }) => total + error, 0),
      truncationExcess: Math.max(...excesses),
    };
  }

  private async factorize(
    rows: number,
    columns: number,
    values: Float32Array,
    ratio: number,
    seed: number,
  ): Promise<SmallMatrix> {
    if (ratio === 1) return kept(rows, columns, values);
    const rank = Math.floor((ratio * rows * columns) / (rows + columns));
    if (rank < 1) {
      const least = (rows + columns) / (rows * columns);
      throw new RangeError(
        `a share of ${ratio} of ${rows} × ${columns} numbers is less than factors of rank 1: keep at least ${least}`,
      );
    }
    const wide = columns > rows;
    const size = Math.min(rows, columns);
    const energy = energyOf(values);
    const name = `${rows} ${columns} ${rank}`;
    const shape = [rows, columns];
    const gram = await this.products.run(
      `gram ${name}`,
      () => {
        const m = input('m', 'float32', shape);
        return matmul(m, m, wide ? { transposeB: true } : { transposeA: true });
      },
      { m: values },
    );
    const floor = RESOLUTION ** 2 * energy;
    // Of the sum of eigenvalues: the square of the error is the energy less that sum.
    const tolerance = (found: number): number => 2 * TOLERANCE * Math.max(energy - found, floor);
    const { vectors, sumBound } = await topEigenvectors(this.products, gram, size, rank, tolerance, seed);
    const projected = await this.products.run(
      `project ${name}`,
      () => {
        const [m, v] = [input('m', 'float32', shape), input('v', 'float32', [size, rank])];
        return wide ? matmul(v, m, { transposeA: true }) : matmul(m, v);
      },
      { m: values, v: vectors },
    );
    const left = wide ? vectors : projected;
    const right = wide ? projected : transpose(vectors, size, rank);
    const error = await this.errorOf(values, energy, { rows, columns, rank }, left, right, wide);
    const best = Math.sqrt(Math.max(0, energy - sumBound - ROUNDING * energy));
    const unit = Math.max(best, Math.sqrt(floor));
    const matrix: CompressedMatrix = { kind: 'lowRank', rows, columns, rank, left, right };
    const truncationExcess = unit === 0 ? 0 : Math.max(0, (Math.sqrt(error) - best) / unit);
    return { matrices: [matrix], error, truncationExcess };
  }

  /**
   * ‖M − U V‖². Where it is no small part of ‖M‖² it is taken from products of the factors,
   * `‖M‖² − 2 ‖P‖² + ⟨PᵀP, QᵀQ⟩`, Q being the factor of orthonormal columns and P the projection of M to them: hardly any
   * work. Else float32 would leave nothing of the difference, and all of M is gone through.
   */
  private async errorOf(
    values: Float32Array,
    energy: number,
    { rows, columns, rank }: { rows: number; columns: number; rank: number },
    left: Float32Array,
    right: Float32Array,
    wide: boolean,
  ): Promise<number> {
    const name = `${rows} ${columns} ${rank}`;
    const grams = await this.products.run(
      `grams ${name}`,
      () => {
        const [u, v] = [input('u', 'float32', [rows, rank]), input('v', 'float32', [rank, columns])];
        return concat([matmul(u, u, { transposeA: true }), matmul(v, v, { transposeB: true })], 0);
      },
      { u: left, v: right },
    );
    const projected = energyOf(wide ? right : left);
    let overlap = 0;
    for (let i = 0; i < rank * rank; i++) overlap += grams[i] * grams[rank * rank + i];
    const difference = energy - 2 * projected + overlap;
    if (difference > LARGE_ERROR * energy) return difference;
    const squares = await this.products.run(
      `error ${name}`,
      () => {
        const [m, u, v] = [
          input('m', 'float32', [rows, columns]),
          input('u', 'float32', [rows, rank]),
          input('v', 'float32', [rank, columns]),
        ];
        return sum(square(subtract(m, matmul(u, v))), 1);
      },
      { m: values, u: left, v: right },
    );
    return squares.reduce((total, one) => total + one, 0);
  }

  async release(): Promise<void> {
    await this.products.release();
  }
}

function kept(rows: number, columns: number, values: Float32Array): SmallMatrix {
  return { matrices: [{ kind: 'dense', rows, columns, values }], error: 0 };
}

function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) turned[j * rows + i] = matrix[i * columns + j];
  return turned;
}
