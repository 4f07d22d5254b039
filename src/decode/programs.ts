/**
 * Programs of one model that are compiled when they are first needed and kept.
 * @module
 */
import type { Tensor } from '../graph/index.js';
import { evaluationContext, type TraceContext } from '../nn/index.js';
import { compile, type Buffers, type Program, type Results, type RuntimeOptions } from '../runtime/index.js';

/** One pass of a model, ready to run. */
export interface Pass {
  /**
   * Runs once, after the run before is over.
   * @param feeds every input of the pass that is not a weight.
   * @returns every output. The arrays belong to the pass and are overwritten by its next run.
   */
  run(feeds: Buffers): Promise<Results>;
}

/** The passes of one model by name, over weights that are wherever the implementation has them. */
export interface Passes {
  /**
   * The pass of this name, traced and compiled if it is new.
   * @param trace its outputs by name, traced with the context that it is given.
   */
  get(name: string, trace: (context: TraceContext) => Readonly<Record<string, Tensor>>): Promise<Pass>;
  /** Frees all sessions. */
  release(): Promise<void>;
}

/** Passes of one program each, with every weight in memory. */
export class Programs implements Passes {
  private readonly compiled = new Map<string, Promise<Program>>();

  /** @param weights every parameter of the model by name */
  constructor(
    private readonly weights: ReadonlyMap<string, Float32Array>,
    private readonly runtime: RuntimeOptions = {},
  ) {}

  async get(
    name: string,
    trace: (context: TraceContext) => Readonly<Record<string, Tensor>>,
  ): Promise<Program> {
    const known = this.compiled.get(name);
    if (known) return known;
    const made = compile(trace(evaluationContext()), this.runtime).then((program) =>
      program.bindKnown(this.weights),
    );
    this.compiled.set(name, made);
    // A device that could not be opened may be asked again.
    made.catch(() => this.compiled.delete(name));
    return made;
  }

  async release(): Promise<void> {
    const programs = await Promise.all(this.compiled.values());
    this.compiled.clear();
    for (const program of programs) await program.release();
  }
}
