/**
 * Experts back from what is stored for them.
 * @module
 */
import { designWidth, type CompressedLayer, type CompressedMatrix } from './layer.js';
import { addMatrix } from './matrix.js';

/**
 * The design matrix of an original expert, `[intermediateSize, width]`: the centre plus what is stored for it. Neurons
 * come in the stored order; neurons that were removed are zero, as are all of a dropped expert, and add nothing.
 */
export function restoreExpert(layer: CompressedLayer, expert: number): Float32Array {
  const stored = layer.expertOf[expert];
  return stored < 0
    ? new Float32Array(layer.intermediateSize * designWidth(layer.blocks))
    : restoreDesign(layer, layer.experts[stored].matrices, layer.centre);
}

/** The design matrix that a stored expert's matrices make with the layer's centre, where it has one. */
export function restoreDesign(
  { intermediateSize, blocks }: Pick<CompressedLayer, 'intermediateSize' | 'blocks'>,
  matrices: readonly CompressedMatrix[],
  centre: Float32Array | undefined,
): Float32Array {
  const width = designWidth(blocks);
  const design = centre ? centre.slice() : new Float32Array(intermediateSize * width);
  let begin = 0;
  for (const matrix of matrices) {
    addMatrix(matrix, design, { stride: width, begin });
    begin += matrix.columns;
  }
  return design;
}
