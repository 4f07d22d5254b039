/**
 * What a compressed layer takes, exactly (ResMoE §6 of its accounting: the centre is extra, and an index is not free).
 * @module
 */
import { designWidth, type CompressedLayer, type CompressedMatrix } from './layer.js';
import { sparseIndexBytes } from './sparse-index.js';

/** Parameters and bytes of a layer's experts. */
export interface LayerSize {
  /** Numbers stored: centre, values, factors, output biases. Indices do not count. */
  readonly parameters: number;
  /** Bytes of those numbers and of the indices that say where they belong. */
  readonly bytes: number;
}

/** What the experts of a layer take as they were. */
export function originalSize(
  layer: Pick<CompressedLayer, 'intermediateSize' | 'hiddenSize' | 'blocks' | 'expertOf' | 'outputBiases'>,
  bytesPerValue: number,
): LayerSize {
  const perExpert =
    layer.intermediateSize * designWidth(layer.blocks) + (layer.outputBiases ? layer.hiddenSize : 0);
  const parameters = perExpert * layer.expertOf.length;
  return { parameters, bytes: parameters * bytesPerValue };
}

/** What they take compressed, values being stored in `bytesPerValue` bytes. */
export function compressedSize(layer: CompressedLayer, bytesPerValue: number): LayerSize {
  let parameters = layer.centre?.length ?? 0;
  let indexBytes = 0;
  for (const biases of layer.outputBiases ?? []) parameters += biases.length;
  for (const matrix of layer.experts.flatMap(({ matrices }) => matrices)) {
    parameters += storedNumbers(matrix);
    if (matrix.kind === 'sparse')
      indexBytes += sparseIndexBytes(matrix.rows, matrix.columns, matrix.values.length);
  }
  return { parameters, bytes: parameters * bytesPerValue + indexBytes };
}

/** Values or factors of a matrix. */
export function storedNumbers(matrix: CompressedMatrix): number {
  return matrix.kind === 'lowRank' ? matrix.left.length + matrix.right.length : matrix.values.length;
}
