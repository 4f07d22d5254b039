/**
 * Elementwise passes over flat arrays, in chunks that stay in the cache from the first operator to the last.
 *
 * The update rule of an optimiser is a small graph over vectors of run-time length; running it chunk by chunk costs
 * one read and one write of memory per array, however many operators it has.
 * @module
 */
import { input, multiply, sum, type Tensor } from '../graph/index.js';
import { compile, type Program, type TensorData } from '../runtime/index.js';

/** Elements per run: five arrays of this size fit the second-level caches, and a run costs about 30 µs by itself. */
const CHUNK = 131_072;

/** The flat vectors of a pass, by name. */
export const flatVector = (name: string): Tensor => input(name, 'float32', ['elements']);

/** A scalar that changes from pass to pass. */
export const flatScalar = (name: string): Tensor => input(name, 'float32', []);

/** Runs a graph over {@link flatVector}s in place. */
export class FlatPass {
  private constructor(
    private readonly program: Program,
    private readonly writes: Readonly<Record<string, string>>,
  ) {}

  /** @param outputs new values by the name of the vector that they replace. */
  static async compile(
    outputs: Readonly<Record<string, Tensor>>,
    threads: number | undefined,
  ): Promise<FlatPass> {
    const renamed = Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [`${name}.next`, tensor]),
    );
    const program = await compile(renamed, threads === undefined ? {} : { threads });
    return new FlatPass(
      program,
      Object.fromEntries(Object.keys(outputs).map((name) => [name, `${name}.next`])),
    );
  }

  /** @param range elements to work on; all when absent. */
  async run(
    vectors: Readonly<Record<string, Float32Array>>,
    scalars: Readonly<Record<string, number>>,
    range?: { start: number; end: number },
  ): Promise<void> {
    const { start, end } = range ?? { start: 0, end: Object.values(vectors)[0]!.length };
    for (const [name, value] of Object.entries(scalars))
      this.program.bind({ [name]: Float32Array.of(value) });
    for (let at = start; at < end; at += CHUNK) {
      const stop = Math.min(at + CHUNK, end);
      const views = Object.entries(vectors).map(([name, data]) => [name, data.subarray(at, stop)] as const);
      this.program.bind(Object.fromEntries<TensorData>(views));
      for (const [name, data] of views) {
        const output = this.writes[name];
        if (output) this.program.bindOutput(output, data);
      }
      await this.program.run();
    }
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}

/** Sum of squares of a flat array; the same bits for the same numbers and threads. */
export class SumOfSquares {
  private constructor(private readonly program: Program<'total'>) {}

  static async compile(threads: number | undefined): Promise<SumOfSquares> {
    const x = flatVector('x');
    return new SumOfSquares(
      await compile({ total: sum(multiply(x, x)) }, threads === undefined ? {} : { threads }),
    );
  }

  async of(data: Float32Array): Promise<number> {
    let total = 0;
    for (let at = 0; at < data.length; at += CHUNK) {
      const result = await this.program.run({ x: data.subarray(at, Math.min(at + CHUNK, data.length)) });
      total += result.total[0] as number;
    }
    return total;
  }

  /** Frees the session. */
  async release(): Promise<void> {
    await this.program.release();
  }
}
