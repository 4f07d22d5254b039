/**
 * The memory of segment recurrence between two runs of a program.
 * @module
 */
import { memoryShapes, type LanguageModel } from '../models/index.js';
import type { Program } from '../runtime/index.js';

/** One array of a memory. */
export interface MemoryArray {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** What a program fetches under these names is what it is fed in its next run. */
const fetched = (name: string): string => `next.${name}`;

/**
 * Two sets of arrays: one is fed, the other takes what the segment leaves, and {@link advance} exchanges them. Nothing is
 * copied.
 */
export class SegmentBuffers {
  private now: ReadonlyMap<string, Float32Array>;
  private next: ReadonlyMap<string, Float32Array>;

  private constructor(private readonly shapes: ReadonlyMap<string, readonly number[]>) {
    const allocate = (): ReadonlyMap<string, Float32Array> =>
      new Map([...shapes].map(([name, shape]) => [name, new Float32Array(shape.reduce((a, b) => a * b, 1))]));
    [this.now, this.next] = [allocate(), allocate()];
  }

  /** Zeros for a memory of `length` tokens; undefined where the model has none. */
  static create({ options }: LanguageModel, batchSize: number, length: number): SegmentBuffers | undefined {
    const shapes = memoryShapes(options, batchSize, length);
    return shapes.size === 0 ? undefined : new SegmentBuffers(shapes);
  }

  /** The outputs of a program that fill the memory, from those of the traced model. */
  static outputs<T>(memory: Readonly<Record<string, T>>): Record<string, T> {
    return Object.fromEntries(Object.entries(memory).map(([name, tensor]) => [fetched(name), tensor]));
  }

  /** What the next run is fed, by name. */
  get arrays(): ReadonlyMap<string, MemoryArray> {
    return new Map([...this.now].map(([name, data]) => [name, { data, shape: this.shapes.get(name)! }]));
  }

  /** Forgets everything: rows begin a text. */
  reset(): void {
    for (const data of this.now.values()) data.fill(0);
  }

  /** Binds both sets; before every run. */
  bind(program: Program): void {
    program.bindKnown(this.now);
    for (const [name, data] of this.next) program.bindOutput(fetched(name), data);
  }

  /** Makes what the run left the memory of the next one. */
  advance(): void {
    [this.now, this.next] = [this.next, this.now];
  }
}
