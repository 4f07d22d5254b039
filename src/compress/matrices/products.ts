/**
 * Products of float32 matrices by the runtime: a session for each kind and shape, kept until released.
 * @module
 */
import type { Tensor } from '../../graph/index.js';
import { compile, type Program } from '../../runtime/index.js';

/** Runs small graphs over arrays, compiling each at its first use. */
export class Products {
  private readonly programs = new Map<string, Program<'result'>>();

  /**
   * @param key says all that `make` depends on.
   * @returns an array of its own.
   */
  async run(
    key: string,
    make: () => Tensor,
    feeds: Readonly<Record<string, Float32Array>>,
  ): Promise<Float32Array> {
    let program = this.programs.get(key);
    if (!program) {
      program = await compile({ result: make() });
      this.programs.set(key, program);
    }
    const { result } = await program.run(feeds);
    return (result as Float32Array).slice();
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    for (const program of this.programs.values()) await program.release();
    this.programs.clear();
  }
}
