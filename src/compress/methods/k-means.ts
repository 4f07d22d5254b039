/**
 * k-means with k-means++ starts, the products computed by the runtime.
 * @module
 */
import { input, matmul } from '../../graph/index.js';
import { RandomStream, streamKey } from '../../nn/index.js';
import { compile, type Program } from '../../runtime/index.js';

/** Settings of {@link KMeans}. */
export interface KMeansOptions {
  /** Starts, of which the one with the smallest inertia counts. */
  readonly restarts: number;
  /** It ends sooner when no row changes its cluster. */
  readonly maxIterations: number;
}

/** Rows in clusters, none of them empty. */
export interface Clustering {
  /** `[clusters, width]`: means of the rows. */
  readonly centres: Float32Array;
  /** Rows in each cluster. */
  readonly sizes: readonly number[];
  /** Cluster of each row. */
  readonly clusterOf: Int32Array;
  /** Σ ‖row − its centre‖² */
  readonly inertia: number;
}

/** Clusters matrices of one shape, one after the other. */
export class KMeans {
  private constructor(
    private readonly rows: number,
    private readonly width: number,
    private readonly count: number,
    private readonly options: KMeansOptions,
    private readonly program: Program<'products'>,
  ) {}

  /**
   * @param rows of each matrix
   * @param width of each matrix
   * @param count most clusters, at most `rows`.
   */
  static async open(rows: number, width: number, count: number, options: KMeansOptions): Promise<KMeans> {
    const points = input('points', 'float32', [rows, width]);
    const centres = input('centres', 'float32', [count, width]);
    const program = await compile({ products: matmul(points, centres, { transposeB: true, scale: -2 }) });
    return new KMeans(rows, width, count, options, program);
  }

  /** The best clustering of all starts. Fewer clusters than wanted where fewer rows differ. */
  async cluster(points: Float32Array, seed: number): Promise<Clustering> {
    let best: Clustering | undefined;
    for (let start = 0; start < this.options.restarts; start++) {
      const found = await this.run(
        points,
        this.firstCentres(points, new RandomStream(streamKey(seed, start))),
      );
      if (!best || found.inertia < best.inertia) best = found;
      if (best.inertia === 0) break;
    }
    return best!;
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }

  /** k-means++ (Arthur & Vassilvitskii 2007): rows far from those chosen before are more likely to be next. */
  private firstCentres(points: Float32Array, random: RandomStream): Float32Array {
    const { rows, width, count } = this;
    const centres = new Float32Array(count * width);
    const nearest = new Float64Array(rows).fill(Infinity);
    let next = random.integer(rows);
    for (let chosen = 0; chosen < count; chosen++) {
      centres.set(points.subarray(next * width, (next + 1) * width), chosen * width);
      let total = 0;
      for (let row = 0; row < rows; row++) {
        nearest[row] = Math.min(nearest[row], squaredDistanceOf(points, row, points, next, width));
        total += nearest[row];
      }
      let left = random.uniform() * total;
      next = 0;
      while (next < rows - 1 && (left -= nearest[next]) > 0) next++;
    }
    return centres;
  }

  private async run(points: Float32Array, centres: Float32Array): Promise<Clustering> {
    const { rows, width, count } = this;
    const clusterOf = new Int32Array(rows).fill(-1);
    let sizes = new Int32Array(count);
    for (let iteration = 0; iteration < this.options.maxIterations; iteration++) {
      const products = (await this.program.run({ points, centres })).products as Float32Array;
      const squares = Float64Array.from({ length: count }, (_, c) => squareOf(centres, c, width));
      let changed = 0;
      sizes = new Int32Array(count);
      for (let row = 0; row < rows; row++) {
        let [nearest, least] = [-1, Infinity];
        for (let c = 0; c < count; c++) {
          const distance = products[row * count + c] + squares[c];
          if (distance < least) [nearest, least] = [c, distance];
        }
        if (nearest < 0) throw new RangeError('a weight is not a finite number: it cannot be compressed');
        if (clusterOf[row] !== nearest) changed++;
        clusterOf[row] = nearest;
        sizes[nearest]++;
      }
      const isFilled = fillEmpty(points, centres, clusterOf, sizes, width);
      if (changed === 0 && !isFilled) break;
      averageClusters(points, centres, clusterOf, sizes, width);
    }
    return this.finish(points, clusterOf, sizes);
  }

  private finish(points: Float32Array, clusterOf: Int32Array, sizes: Int32Array): Clustering {
    const { width, rows, count } = this;
    const used = Array.from({ length: count }, (_, c) => c).filter((c) => sizes[c] > 0);
    const renumbered = new Map(used.map((cluster, index) => [cluster, index]));
    const cluster = clusterOf.map((c) => renumbered.get(c)!);
    const counts = Int32Array.from(used, (c) => sizes[c]);
    const centres = new Float32Array(used.length * width);
    averageClusters(points, centres, cluster, counts, width);
    let inertia = 0;
    for (let row = 0; row < rows; row++)
      inertia += squaredDistanceOf(points, row, centres, cluster[row], width);
    return { centres, sizes: [...counts], clusterOf: cluster, inertia };
  }
}

/**
 * A cluster that lost all its rows takes the one that lies farthest from its centre, if any lies apart from it.
 * @returns whether a row was moved.
 */
function fillEmpty(
  points: Float32Array,
  centres: Float32Array,
  clusterOf: Int32Array,
  sizes: Int32Array,
  width: number,
): boolean {
  let isMoved = false;
  for (let empty = 0; empty < sizes.length; empty++) {
    if (sizes[empty] > 0) continue;
    let [farthest, most] = [-1, 0];
    for (let row = 0; row < clusterOf.length; row++) {
      if (sizes[clusterOf[row]] === 1) continue;
      const distance = squaredDistanceOf(points, row, centres, clusterOf[row], width);
      if (distance > most) [farthest, most] = [row, distance];
    }
    if (farthest < 0) return isMoved;
    isMoved = true;
    sizes[clusterOf[farthest]]--;
    clusterOf[farthest] = empty;
    sizes[empty] = 1;
    centres.set(points.subarray(farthest * width, (farthest + 1) * width), empty * width);
  }
  return isMoved;
}

function averageClusters(
  points: Float32Array,
  centres: Float32Array,
  clusterOf: Int32Array,
  sizes: Int32Array,
  width: number,
): void {
  const sums = new Float64Array(centres.length);
  clusterOf.forEach((cluster, row) => {
    for (let i = 0; i < width; i++) sums[cluster * width + i] += points[row * width + i];
  });
  for (let cluster = 0; cluster < sizes.length; cluster++) {
    if (sizes[cluster] === 0) continue;
    for (let i = cluster * width; i < (cluster + 1) * width; i++) centres[i] = sums[i] / sizes[cluster];
  }
}

function squareOf(matrix: Float32Array, row: number, width: number): number {
  let total = 0;
  for (let i = row * width; i < (row + 1) * width; i++) total += matrix[i] * matrix[i];
  return total;
}

function squaredDistanceOf(
  a: Float32Array,
  rowA: number,
  b: Float32Array,
  rowB: number,
  width: number,
): number {
  let total = 0;
  for (let i = 0; i < width; i++) {
    const difference = a[rowA * width + i] - b[rowB * width + i];
    total += difference * difference;
  }
  return total;
}
