/**
 * Arithmetic on rows of design matrices: gathering in another order, averages, and sums of squares in
 * double precision.
 * @module
 */

/** The order 0 … `rows` − 1. */
export function identity(rows: number): Int32Array {
  return Int32Array.from({ length: rows }, (_, i) => i);
}

/** @throws Error unless `order` holds each of 0 … length − 1 once: any other would lose neurons. */
export function assertBijection(order: Int32Array): void {
  const seen = new Uint8Array(order.length);
  for (const row of order) {
    if (!(row >= 0 && row < order.length) || seen[row])
      throw new Error(
        `an alignment of ${order.length} neurons uses neuron ${row} twice or it does not exist`,
      );
    seen[row] = 1;
  }
}

/** Σ x² */
export function energyOf(values: Float32Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] * values[i];
  return total;
}

/**
 * Takes one more expert, its rows in the order given, into a running mean: after `count` of them it is theirs. Experts
 * that are all the same leave exactly that expert.
 */
export function averageInto(
  mean: Float32Array,
  design: Float32Array,
  order: Int32Array,
  count: number,
): void {
  const width = design.length / order.length;
  const share = 1 / count;
  for (let row = 0; row < order.length; row++) {
    const to = row * width;
    const from = order[row] * width;
    for (let column = 0; column < width; column++)
      mean[to + column] += (design[from + column] - mean[to + column]) * share;
  }
}

/** ‖T D − centre‖², D's rows taken in the order given. */
export function alignedDistance(centre: Float32Array, design: Float32Array, order: Int32Array): number {
  const width = design.length / order.length;
  let total = 0;
  for (let row = 0; row < order.length; row++) {
    const to = row * width;
    const from = order[row] * width;
    for (let column = 0; column < width; column++) {
      const difference = design[from + column] - centre[to + column];
      total += difference * difference;
    }
  }
  return total;
}

/** T D − centre, in a new array. */
export function residualOf(centre: Float32Array, design: Float32Array, order: Int32Array): Float32Array {
  const width = design.length / order.length;
  const residual = new Float32Array(design.length);
  for (let row = 0; row < order.length; row++) {
    const to = row * width;
    const from = order[row] * width;
    for (let column = 0; column < width; column++)
      residual[to + column] = design[from + column] - centre[to + column];
  }
  return residual;
}
