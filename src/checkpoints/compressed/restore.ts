/**
 * Experts back from what is stored for them.
 * @module
 */
import { designWidth, type CompressedLayer } from './layer.js';
import { addMatrix } from './matrix.js';

/**
 * The design matrix of an original expert, `[intermediateSize, width]`: the centre plus what is stored for it. Neurons
 * come in the stored order; neurons that were removed are zero, as are all of a dropped expert, and add nothing.
 */
export function restoreExpert(layer: CompressedLayer, expert: number): Float32Array {
  const width = designWidth(layer.blocks);
  const design = new Float32Array(layer.intermediateSize * width);
  const stored = layer.expertOf[expert];
  if (stored < 0) return design;
  if (layer.centre) design.set(layer.centre);
  let begin = 0;
  for (const matrix of layer.experts[stored].matrices) {
    addMatrix(matrix, design, { stride: width, begin });
    begin += matrix.columns;
  }
  return design;
}
