/**
 * Unstructured magnitude pruning (UP): only the largest numbers stay (ResMoE, §5 of its spec).
 * @module
 */
import { sparseMatrix } from '../../checkpoints/index.js';
import type { DesignMatrix, MatrixCompressor, Scope, SmallMatrix } from '../matrix-compressor.js';
import { takeColumns } from './columns.js';
import { largestMagnitudes } from './largest.js';

/**
 * Sets the `round((1 − ratio) · rows · columns)` numbers of smallest magnitude to zero; which of equal ones is not said.
 * `concat` compares all numbers of an expert with each other, `sep` those of a column block.
 */
export class UnstructuredPruning implements MatrixCompressor {
  constructor(private readonly scope: Scope) {}

  async compress({ rows, blocks, values }: DesignMatrix, ratio: number): Promise<SmallMatrix> {
    if (this.scope === 'concat') return prune(rows, values.length / rows, values, ratio);
    let start = 0;
    const parts = blocks.map(({ width }) => {
      start += width;
      return prune(rows, width, takeColumns(values, rows, start - width, width), ratio);
    });
    return {
      matrices: parts.flatMap(({ matrices }) => matrices),
      error: parts.reduce((sum, { error }) => sum + error, 0),
    };
  }

  async release(): Promise<void> {}
}

function prune(rows: number, columns: number, values: Float32Array, ratio: number): SmallMatrix {
  const size = rows * columns;
  const kept = size - Math.round((1 - ratio) * size);
  if (kept === 0)
    throw new RangeError(`a share of ${ratio} keeps none of ${size} numbers: keep at least ${1 / size}`);
  const { threshold, ties } = largestMagnitudes(values, kept);
  if (kept === size) return { matrices: [{ kind: 'dense', rows, columns, values }], error: 0 };
  let tiesLeft = ties;
  let error = 0;
  const matrix = sparseMatrix(rows, columns, values, (value) => {
    const magnitude = Math.abs(value);
    if (magnitude > threshold || (magnitude === threshold && tiesLeft-- > 0)) return true;
    error += value * value;
    return false;
  });
  return { matrices: [matrix], error };
}
