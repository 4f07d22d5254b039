/**
 * The square assignment problem, solved exactly: each row goes with one column so that the total cost is smallest.
 *
 * Jonker & Volgenant (Computing 38, 1987): column reduction, reduction transfer, augmenting row reduction, and shortest
 * augmenting paths for the few rows that are left. O(n³), potentials in float64.
 * @module
 */
import { FlatMemory } from '../runtime/index.js';
import { assignmentKernels, type AssignmentKernels } from './assignment-kernels.js';

/** Costs and potentials lie in memory of at most 4 GiB. */
const MAX_BYTES = 2 ** 32 - 2 ** 20;

/** Rounds of augmenting row reduction: more do not pay (Jonker & Volgenant, §4). */
const REDUCTION_ROUNDS = 2;

/** An optimal assignment with the potentials that prove it. */
export interface Assignment {
  /** For each row its column: a bijection. */
  readonly columnOf: Int32Array;
  /**
   * Potentials u of rows and v of columns with `u + v ≤ cost` everywhere and `=` on the assignment, up to rounding:
   * whatever the assignment, Σ u + Σ v is a lower bound of its total.
   */
  readonly rowPotentials: Float64Array;
  readonly columnPotentials: Float64Array;
}

/** Element types of a cost matrix. */
export interface CostArrays {
  readonly float32: Float32Array;
  readonly float64: Float64Array;
}

/**
 * Solves problems of one size, one after the other, in memory of its own.
 *
 * @example
 * const solver = new AssignmentSolver(3, 'float64');
 * solver.costs.set([4, 1, 3, 2, 0, 5, 3, 2, 2]);
 * solver.solve().columnOf; // [1, 0, 2]: 1 + 2 + 2
 */
export class AssignmentSolver<Type extends keyof CostArrays = 'float32'> {
  /** Fill in before {@link solve}, row by row: `[size, size]`. */
  readonly costs: CostArrays[Type];
  private readonly kernels: AssignmentKernels;
  private readonly duals: Float64Array;
  private readonly distances: Float64Array;
  private readonly predecessors: Float64Array;
  private readonly zeros: Float64Array;
  private readonly pairs: Float64Array;

  /** @throws RangeError if the problem does not fit in 4 GiB, naming the largest size that does. */
  constructor(
    readonly size: number,
    type: Type = 'float32' as Type,
  ) {
    const bytesPerCost = type === 'float64' ? 8 : 4;
    // Loops read up to four numbers past an end.
    const padded = size + 4;
    const bytes = (size * size + 4) * bytesPerCost + 4 * padded * 8 + 64;
    const memory = bytes <= MAX_BYTES ? FlatMemory.reserve(Math.ceil(bytes / 4)) : undefined;
    if (!memory?.memory)
      throw new RangeError(
        `an assignment of ${size} rows needs ${(bytes / 2 ** 30).toFixed(1)} GiB in one piece, which ` +
          `${bytes <= MAX_BYTES ? 'this machine does not give' : `ends at ${Math.floor(Math.sqrt(MAX_BYTES / bytesPerCost))} rows`}`,
      );
    const doubles = (length: number): Float64Array => {
      const floats = memory.take(2 * length);
      return new Float64Array(floats.buffer, floats.byteOffset, length);
    };
    const room = (size * size + 4) * (bytesPerCost / 4);
    const { buffer, byteOffset } = memory.take(room);
    this.costs = (
      type === 'float64'
        ? new Float64Array(buffer, byteOffset, size * size)
        : new Float32Array(buffer, byteOffset, size * size)
    ) as CostArrays[Type];
    this.duals = doubles(padded);
    this.distances = doubles(padded);
    this.predecessors = doubles(padded);
    this.zeros = doubles(padded);
    this.pairs = doubles(8);
    this.kernels = assignmentKernels(memory.memory, bytesPerCost);
  }

  /**
   * An assignment of smallest total for the costs as they are now.
   *
   * @param start potentials of the columns to start from, such as those of a similar problem: any finite numbers lead to
   *   an optimum, good ones sooner.
   * @throws RangeError if a cost or a potential is not finite.
   */
  solve(start?: Float64Array): Assignment {
    const { size, costs, duals, kernels } = this;
    if (start && (start.length !== size || !start.every(Number.isFinite)))
      throw new RangeError(`an assignment of ${size} rows starts from ${size} finite potentials`);
    if (Number.isNaN(kernels.checkFinite(costs.byteOffset, costs.byteOffset + costs.byteLength)))
      throw new RangeError('an assignment needs finite costs');
    const state: Matching = {
      columnOf: new Int32Array(size).fill(-1),
      rowOf: new Int32Array(size).fill(-1),
      free: Int32Array.from({ length: size }, (_, row) => row),
      numFree: size,
    };
    if (start) duals.set(start);
    else this.reduceColumns(state);
    duals.fill(-Infinity, size);
    if (size === 1) state.columnOf[0] = 0;
    else {
      if (!start) this.transferReductions(state);
      for (let round = 0; round < REDUCTION_ROUNDS && state.numFree > 0; round++) this.reduceRows(state);
      for (const row of state.free.subarray(0, state.numFree)) this.augment(state, row);
    }
    const { columnOf } = state;
    const columnPotentials = duals.slice(0, size);
    const rowPotentials = Float64Array.from(
      columnOf,
      (column, row) => costs[row * size + column] - columnPotentials[column],
    );
    return { columnOf, rowPotentials, columnPotentials };
  }

  private addressOf(row: number): number {
    return this.costs.byteOffset + row * this.size * this.costs.BYTES_PER_ELEMENT;
  }

  private get dualsEnd(): number {
    return this.duals.byteOffset + this.size * 8;
  }

  /** Potentials become the smallest costs of the columns, and rows get a column where they are the smallest. */
  private reduceColumns({ columnOf, rowOf }: Matching): void {
    const { size, kernels, duals, predecessors, zeros } = this;
    duals.fill(Infinity);
    for (let row = 0; row < size; row++)
      kernels.relax(
        ...([this.addressOf(row), zeros.byteOffset, duals.byteOffset, predecessors.byteOffset] as const),
        ...([this.dualsEnd, 0, row] as const),
      );
    for (let column = size - 1; column >= 0; column--) {
      const row = predecessors[column];
      if (columnOf[row] >= 0) continue;
      columnOf[row] = column;
      rowOf[column] = row;
    }
  }

  /** Lowers the potential of each assigned column as far as its row allows, so that it is worth more to others. */
  private transferReductions(state: Matching): void {
    const { size, duals } = this;
    let free = 0;
    for (let row = 0; row < size; row++) {
      const column = state.columnOf[row];
      if (column < 0) state.free[free++] = row;
      else {
        const [smallest, second] = this.twoSmallest(row);
        duals[column] -= second - smallest;
      }
    }
    state.numFree = free;
  }

  /** Each free row takes its cheapest column, at a price that makes the second cheapest as good. */
  private reduceRows(state: Matching): void {
    const { size, duals, kernels } = this;
    const { columnOf, rowOf, free } = state;
    const waiting = state.numFree;
    state.numFree = 0;
    // Prices of rounding size may keep two rows taking a column from each other.
    let patience = 4 * size;
    for (let next = 0; next < waiting;) {
      const row = free[next++];
      const [smallest, second] = this.twoSmallest(row);
      const find = (bound: number, from: number): number =>
        kernels.findAtMost(this.addressOf(row), duals.byteOffset, from, size, bound);
      let column = find(smallest, 0);
      const price = duals[column] - (second - smallest);
      const lowered = price < duals[column];
      if (lowered) duals[column] = price;
      else if (rowOf[column] >= 0) {
        const other = find(second, 0);
        column = other === column ? find(second, column + 1) : other;
      }
      const displaced = rowOf[column];
      columnOf[row] = column;
      rowOf[column] = row;
      if (displaced < 0) continue;
      columnOf[displaced] = -1;
      if (lowered && patience-- > 0) free[--next] = displaced;
      else free[state.numFree++] = displaced;
    }
  }

  /** A shortest path of reduced costs from a free row to a free column; all rows on it move one column on. */
  private augment({ columnOf, rowOf }: Matching, start: number): void {
    const { size, costs, duals, distances, predecessors, kernels } = this;
    distances.fill(Infinity, 0, size).fill(NaN, size);
    const scan = (row: number, offset: number): number =>
      kernels.relax(
        ...([this.addressOf(row), duals.byteOffset, distances.byteOffset, predecessors.byteOffset] as const),
        ...([distances.byteOffset + size * 8, offset, row] as const),
      );
    const scanned: number[] = [];
    const reachedAt: number[] = [];
    let nearest = scan(start, 0);
    let column = kernels.findDistance(distances.byteOffset, size, nearest);
    while (rowOf[column] >= 0) {
      scanned.push(column);
      reachedAt.push(nearest);
      distances[column] = NaN;
      const row = rowOf[column];
      nearest = scan(row, costs[row * size + column] - duals[column] - nearest);
      column = kernels.findDistance(distances.byteOffset, size, nearest);
    }
    scanned.forEach((reached, i) => (duals[reached] += reachedAt[i] - nearest));
    for (let row = -1; row !== start;) {
      row = predecessors[column];
      rowOf[column] = row;
      [columnOf[row], column] = [column, columnOf[row]];
    }
  }

  /** The two smallest reduced costs of a row. */
  private twoSmallest(row: number): [smallest: number, second: number] {
    const { kernels, duals, pairs } = this;
    kernels.twoSmallest(this.addressOf(row), duals.byteOffset, this.dualsEnd, pairs.byteOffset);
    let [smallest, second] = [Infinity, Infinity];
    for (const lane of [0, 1, 4, 5]) {
      const [low, next] = [pairs[lane], pairs[lane + 2]];
      second = low < smallest ? Math.min(smallest, next) : Math.min(second, low);
      smallest = Math.min(smallest, low);
    }
    return [smallest, second];
  }
}

/** A partial assignment: −1 stands for no column and no row. */
interface Matching {
  readonly columnOf: Int32Array;
  readonly rowOf: Int32Array;
  /** The first `numFree` are the rows without a column. */
  readonly free: Int32Array;
  numFree: number;
}
