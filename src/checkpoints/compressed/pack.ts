/**
 * A compressed layer as tensors of a safetensors file, with its entry in the header.
 * @module
 */
import { encodeFloats, type NamedTensor, type StoredArray } from '../safetensors/index.js';
import type { ExpertTensor } from './expert-tensors.js';
import type { CompressedDType, LayerHeader } from './header.js';
import { designWidth, type CompressedLayer, type CompressedMatrix } from './layer.js';
import { centreName, matrixName, outputBiasName } from './names.js';

/** A layer ready to be written. */
export interface PackedLayer {
  readonly header: LayerHeader;
  readonly tensors: readonly NamedTensor[];
}

/**
 * Encodes a layer's numbers in the element type of the original experts; indices stay whole numbers.
 * @param tensors where the experts lay in the original checkpoint.
 */
export function packLayer(
  layer: CompressedLayer,
  dtype: CompressedDType,
  tensors: readonly ExpertTensor[],
): PackedLayer {
  const { name, hiddenSize, intermediateSize, blocks, centre, experts, expertOf, outputBiases } = layer;
  const packed: NamedTensor[] = [];
  const floats = (tensor: string, shape: readonly number[], values: Float32Array): void => {
    packed.push({ name: tensor, dtype, shape, data: encodeFloats(dtype, values) });
  };
  if (centre) floats(centreName(name), [intermediateSize, designWidth(blocks)], centre);
  for (const [i, { matrices }] of experts.entries()) {
    if (outputBiases) floats(outputBiasName(name, i), [hiddenSize], outputBiases[i]);
    for (const [j, matrix] of matrices.entries()) {
      packMatrix(matrix, (part) => matrixName(name, i, j, part), floats, packed);
    }
  }
  const header: LayerHeader = {
    name,
    hiddenSize,
    intermediateSize,
    roles: blocks.map(({ role }) => role),
    dtype,
    centre: centre !== undefined,
    outputBiases: outputBiases !== undefined,
    experts: experts.map(({ matrices }) => ({
      rows: matrices[0].rows,
      matrices: matrices.map(({ kind }) => kind),
    })),
    expertOf: [...expertOf],
    tensors: [...tensors],
  };
  return { header, tensors: packed };
}

function packMatrix(
  matrix: CompressedMatrix,
  nameOf: (part: string) => string,
  floats: (name: string, shape: readonly number[], values: Float32Array) => void,
  packed: NamedTensor[],
): void {
  const { rows, columns } = matrix;
  if (matrix.kind === 'dense') return floats(nameOf('values'), [rows, columns], matrix.values);
  if (matrix.kind === 'lowRank') {
    floats(nameOf('left'), [rows, matrix.rank], matrix.left);
    return floats(nameOf('right'), [matrix.rank, columns], matrix.right);
  }
  floats(nameOf('values'), [matrix.values.length], matrix.values);
  const whole = (part: string, dtype: 'U8' | 'U16' | 'U32', data: StoredArray): void => {
    packed.push({ name: nameOf(part), dtype, shape: [data.length], data });
  };
  const { index } = matrix;
  if (index.kind === 'bitmap') return whole('bitmap', 'U8', index.bits);
  whole('row_starts', 'U32', index.rowStarts);
  whole('columns', index.columns instanceof Uint16Array ? 'U16' : 'U32', index.columns);
}
