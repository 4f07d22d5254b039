/**
 * Which experts are alike.
 * @module
 */
import { z } from 'zod';
import { energyOf } from '../../align.js';
import type { LayerExperts } from '../../method.js';
import { largestOf } from '../whole.js';

/**
 * What experts are grouped by. `routerLogits`: the scores that the router gave them for the tokens of a text (M-SMoE);
 * `routerWeights`: their rows of the router, without a text; `consecutive`: neighbours, whatever they are.
 */
export const groupingSchema = z.enum(['routerLogits', 'routerWeights', 'consecutive']);

/** One of the values of {@link groupingSchema}. */
export type Grouping = z.output<typeof groupingSchema>;

/** Every expert in one group; the first of a group is its dominant one. */
export type Groups = readonly (readonly number[])[];

/**
 * `count` groups. By routers (M-SMoE, arXiv 2310.01334, §3.1): the dominant experts are those with the most tokens, or
 * where no text was read the longest rows of the router; every other expert joins the dominant one to which it is most
 * similar by cosine.
 *
 * @throws RangeError if the layer has not what the grouping needs, saying what does not need it.
 */
export function groupExperts(layer: LayerExperts, count: number, grouping: Grouping): Groups {
  const { name, numExperts, calibration, router } = layer;
  if (grouping === 'consecutive') {
    return Array.from({ length: count }, (_, group) => {
      const [begin, end] = [group, group + 1].map((at) => Math.floor((at * numExperts) / count));
      return Array.from({ length: end - begin }, (_, i) => begin + i);
    });
  }
  if (grouping === 'routerLogits' && !calibration)
    throw new RangeError(
      `${name}: grouping by routerLogits needs a text; group by routerWeights without one`,
    );
  if (grouping === 'routerWeights' && !router)
    throw new RangeError(`${name}: its router has no row for each expert; group by consecutive`);
  const vectors =
    grouping === 'routerLogits'
      ? columnsOf(calibration!.routerLogits, numExperts)
      : rowsOf(router!, numExperts);
  const dominance = calibration?.tokensOf ?? vectors.map(energyOf);
  const dominant = largestOf(dominance, count);
  const groups = dominant.map((expert) => [expert]);
  for (let expert = 0; expert < numExperts; expert++) {
    if (dominant.includes(expert)) continue;
    const similarities = dominant.map((other) => cosine(vectors[expert], vectors[other]));
    groups[largestOf(similarities, 1)[0]].push(expert);
  }
  return groups;
}

function rowsOf(matrix: Float32Array, rows: number): Float32Array[] {
  const width = matrix.length / rows;
  return Array.from({ length: rows }, (_, row) => matrix.subarray(row * width, (row + 1) * width));
}

function columnsOf(matrix: Float32Array, columns: number): Float32Array[] {
  const height = matrix.length / columns;
  return Array.from({ length: columns }, (_, column) =>
    Float32Array.from({ length: height }, (_, row) => matrix[row * columns + column]),
  );
}

/** Cosine of the angle between two vectors; one of zeros is like nothing. */
function cosine(a: Float32Array, b: Float32Array): number {
  const lengths = Math.sqrt(energyOf(a) * energyOf(b));
  let product = 0;
  for (let i = 0; i < a.length; i++) product += a[i] * b[i];
  return lengths === 0 ? 0 : product / lengths;
}
