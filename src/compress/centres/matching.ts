/**
 * Which neuron of an expert meets which row of a centre: the assignment of smallest total squared distance.
 * @module
 */
import { input, matmul } from '../../graph/index.js';
import { AssignmentSolver } from '../../metrics/index.js';
import { compile, type Program } from '../../runtime/index.js';
import { assertBijection } from '../align.js';

/** Arithmetic of one run of the product, so that the thread is free again every second or so. */
const BLOCK_FLOPS = 1e11;

/**
 * Matches experts with centres of one size, one after the other. It holds one cost matrix, `[rows, rows]`, and nothing
 * of the size of an expert.
 *
 * The cost ‖ω_i − d_j‖² = ‖ω_i‖² + ‖d_j‖² − 2 ω_i·d_j decides by its last term alone: the others add the same to every
 * assignment. So the product is the whole cost matrix, free of the cancellation in their sum. The first match starts from
 * the smallest ‖ω_i‖² − 2 ω_i·d_j of each column: without the norms, long rows would look near to everything, which takes
 * up to ten times as long to put right. The product is float32; an assignment replaces a known one only where it is better in
 * float64, so that rounding can neither raise an objective nor keep two equal assignments taking turns.
 */
export class NeuronMatcher {
  private readonly potentials = new Map<number, Float64Array>();

  private constructor(
    private readonly rows: number,
    private readonly width: number,
    private readonly solver: AssignmentSolver,
    private readonly program: Program<'costs'>,
  ) {}

  /**
   * @param rows inner neurons of every expert
   * @param width columns of a design matrix
   * @throws RangeError if the cost matrix would not fit in 4 GiB.
   */
  static async open(rows: number, width: number): Promise<NeuronMatcher> {
    const centre = input('centre', 'float32', ['block', width]);
    const design = input('design', 'float32', [rows, width]);
    const program = await compile({ costs: matmul(centre, design, { transposeB: true, scale: -2 }) });
    return new NeuronMatcher(rows, width, new AssignmentSolver(rows), program);
  }

  /**
   * @param expert key under which the potentials of the last match are kept, to start from the next time
   * @param previous the order of the last match: it stays unless another is better
   * @returns for each row of the centre the row of `design` that it meets.
   */
  async match(
    centre: Float32Array,
    design: Float32Array,
    expert: number,
    previous?: Int32Array,
  ): Promise<Int32Array> {
    const { rows, width, solver, program } = this;
    const block = Math.max(1, Math.min(rows, Math.ceil(BLOCK_FLOPS / (2 * rows * width))));
    for (let row = 0; row < rows; row += block) {
      const end = Math.min(rows, row + block);
      program.bindOutput('costs', solver.costs.subarray(row * rows, end * rows));
      await program.run({ centre: centre.subarray(row * width, end * width), design });
    }
    const start = this.potentials.get(expert) ?? columnMinima(solver.costs, squaredNorms(centre, rows));
    const { columnOf, columnPotentials } = solver.solve(start);
    assertBijection(columnOf);
    this.potentials.set(expert, columnPotentials);
    return previous && gain(centre, design, previous, columnOf) <= 0 ? previous : columnOf;
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}

function squaredNorms(matrix: Float32Array, rows: number): Float64Array {
  const width = matrix.length / rows;
  return Float64Array.from({ length: rows }, (_, row) => {
    let total = 0;
    for (let i = row * width; i < (row + 1) * width; i++) total += matrix[i] * matrix[i];
    return total;
  });
}

/** The smallest sum of cost and norm in each column. */
function columnMinima(costs: Float32Array, norms: Float64Array): Float64Array {
  const size = norms.length;
  const minima = new Float64Array(size).fill(Infinity);
  for (let row = 0; row < size; row++) {
    const norm = norms[row];
    for (let column = 0, at = row * size; column < size; column++, at++) {
      const sum = costs[at] + norm;
      if (sum < minima[column]) minima[column] = sum;
    }
  }
  return minima;
}

/** How much closer an expert is to the centre in the order `next` than in the order `last`, as squared distances. */
function gain(centre: Float32Array, design: Float32Array, last: Int32Array, next: Int32Array): number {
  const width = design.length / last.length;
  let total = 0;
  for (let row = 0; row < last.length; row++) {
    if (last[row] === next[row]) continue;
    for (let column = 0; column < width; column++) {
      const wanted = centre[row * width + column];
      const before = design[last[row] * width + column];
      const after = design[next[row] * width + column];
      // (ω − before)² − (ω − after)²
      total += (after - before) * (2 * wanted - before - after);
    }
  }
  return total;
}
