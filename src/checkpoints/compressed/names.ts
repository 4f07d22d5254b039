/**
 * Names of the tensors that a compressed layer is stored in.
 * @module
 */

/** What all of them begin with; no original tensor may. */
export const COMPRESSED_PREFIX = 'compressed.';

/** `[intermediateSize, width]` */
export function centreName(layer: string): string {
  return `${COMPRESSED_PREFIX}${layer}.centre`;
}

/** `[hiddenSize]`, of one stored expert */
export function outputBiasName(layer: string, stored: number): string {
  return `${COMPRESSED_PREFIX}${layer}.experts.${stored}.output_bias`;
}

/**
 * A part of one matrix of a stored expert: `values` of a dense or sparse one, `bitmap`, or `row_starts` and `columns`,
 * of a sparse one, `left` and `right` of one of low rank.
 */
export function matrixName(layer: string, stored: number, matrix: number, part: string): string {
  return `${COMPRESSED_PREFIX}${layer}.experts.${stored}.${matrix}.${part}`;
}
