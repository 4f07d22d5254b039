/**
 * Programs of one model that are compiled when they are first needed and kept.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import { compile, type Program, type RuntimeOptions } from '../runtime/index.js';

/** Compiled passes by name, all over the same weights. */
export class Programs {
  private readonly compiled = new Map<string, Promise<Program>>();

  constructor(
    private readonly weights: ReadonlyMap<string, Float32Array>,
    private readonly runtime: RuntimeOptions,
  ) {}

  /** The program of this name, traced and compiled if it is new. */
  async get(name: string, trace: () => Readonly<Record<string, Tensor>>): Promise<Program> {
    const known = this.compiled.get(name);
    if (known) return known;
    const made = compile(trace(), this.runtime).then((program) => program.bindKnown(this.weights));
    this.compiled.set(name, made);
    // A device that could not be opened may be asked again.
    made.catch(() => this.compiled.delete(name));
    return made;
  }

  /** Frees all sessions. */
  async release(): Promise<void> {
    const programs = await Promise.all(this.compiled.values());
    this.compiled.clear();
    for (const program of programs) await program.release();
  }
}
