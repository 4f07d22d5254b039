/**
 * Passes over flat arrays: the update rule of an optimiser is a small graph over vectors, computed in place.
 *
 * Arrays that lie in one {@link FlatMemory} are computed by SIMD code in one sweep. Arrays too large for it go through
 * ONNX Runtime in chunks that stay in the cache from the first operator to the last; both round alike.
 * @module
 */
import { input, multiply, sum, type Tensor } from '../graph/index.js';
import {
  compile,
  compileElementwise,
  compileSumOfSquares,
  type ElementwiseKernel,
  type FlatMemory,
  type Program,
  type TensorData,
} from '../runtime/index.js';

/** Elements per run of ONNX Runtime: five arrays of this size fit the second-level caches. */
const CHUNK = 131_072;

/** The flat vectors of a pass, by name. */
export const flatVector = (name: string): Tensor => input(name, 'float32', ['elements']);

/** A scalar that changes from pass to pass. */
export const flatScalar = (name: string): Tensor => input(name, 'float32', []);

type Vectors = Readonly<Record<string, Float32Array>>;
type Scalars = Readonly<Record<string, number>>;

/** Runs a graph of arithmetic over {@link flatVector}s in place. */
export class FlatPass {
  private readonly kernel: ElementwiseKernel | undefined;
  private program: Program | undefined;

  /** @param outputs new values by the name of the vector that they replace. */
  constructor(
    private readonly outputs: Readonly<Record<string, Tensor>>,
    private readonly memory: FlatMemory,
    private readonly threads: number | undefined,
  ) {
    this.kernel = memory.memory && compileElementwise(outputs, memory.memory);
  }

  /** @param range elements to work on, multiples of 4; all when absent. */
  async run(vectors: Vectors, scalars: Scalars, range?: { start: number; end: number }): Promise<void> {
    const arrays = Object.values(vectors);
    const { start, end } = range ?? { start: 0, end: arrays[0].length };
    if (this.kernel && end % 4 === 0 && arrays.every((array) => this.memory.holds(array))) {
      this.kernel.run(vectors, scalars, start, end);
    } else {
      await this.runInChunks(vectors, scalars, start, end);
    }
  }

  private async runInChunks(vectors: Vectors, scalars: Scalars, start: number, end: number): Promise<void> {
    const next = (name: string): string => `${name}.next`;
    const renamed = Object.entries(this.outputs).map(([name, tensor]) => [next(name), tensor] as const);
    this.program ??= await compile(
      Object.fromEntries<Tensor>(renamed),
      this.threads === undefined ? {} : { threads: this.threads },
    );
    for (const [name, value] of Object.entries(scalars))
      this.program.bind({ [name]: Float32Array.of(value) });
    for (let at = start; at < end; at += CHUNK) {
      const stop = Math.min(at + CHUNK, end);
      const views = Object.entries(vectors).map(([name, data]) => [name, data.subarray(at, stop)] as const);
      this.program.bind(Object.fromEntries<TensorData>(views));
      for (const [name, data] of views) if (name in this.outputs) this.program.bindOutput(next(name), data);
      await this.program.run();
    }
  }

  /** Frees the session, if there is one. */
  async release(): Promise<void> {
    await this.program?.release();
  }
}

/** Sum of squares of a flat array: the same bits for the same numbers and threads. */
export class SumOfSquares {
  private readonly kernel: ((data: Float32Array) => number) | undefined;
  private program: Program<'total'> | undefined;

  constructor(
    private readonly memory: FlatMemory,
    private readonly threads: number | undefined,
  ) {
    this.kernel = memory.memory && compileSumOfSquares(memory.memory);
  }

  /** @param data its length is a multiple of 4. */
  async of(data: Float32Array): Promise<number> {
    if (this.kernel && data.length % 4 === 0 && this.memory.holds(data)) return this.kernel(data);
    const x = flatVector('x');
    this.program ??= await compile(
      { total: sum(multiply(x, x)) },
      this.threads === undefined ? {} : { threads: this.threads },
    );
    let total = 0;
    for (let at = 0; at < data.length; at += CHUNK) {
      const result = await this.program.run({ x: data.subarray(at, Math.min(at + CHUNK, data.length)) });
      total += result.total[0] as number;
    }
    return total;
  }

  /** Frees the session, if there is one. */
  async release(): Promise<void> {
    await this.program?.release();
  }
}
