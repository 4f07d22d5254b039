/**
 * Flat storage for parameters and whatever else has their layout: gradients, optimiser moments.
 * @module
 */
import { FlatMemory } from '../runtime/index.js';
import type { Parameter } from './module.js';
import { streamKey } from './random.js';

/** Parameters start on multiples of this many floats (a cache line), so that views are aligned. */
const ALIGNMENT = 16;

/**
 * One flat Float32Array with a named view per parameter. A second arena `like` the first has the same layout, so
 * clipping and the optimiser are single passes over flat memory, and a checkpoint is a write of the buffers.
 */
export class ParameterArena {
  private constructor(
    /** All numbers, with zeros in the gaps of the alignment. */
    readonly data: Float32Array,
    /** Element offset and shape of every parameter. */
    readonly layout: ReadonlyMap<string, { readonly offset: number; readonly shape: readonly number[] }>,
    /** One view per parameter into {@link data}. */
    readonly views: ReadonlyMap<string, Float32Array>,
    /** Parameters with weight decay lie before this element, those without after it. */
    readonly decayEnd: number,
    /** The block in which this arena and those {@link like} it lie. */
    readonly memory: FlatMemory,
  ) {}

  /**
   * Zeroed storage for parameters.
   * @param arenas room that is kept for this arena and those made {@link like} it.
   */
  static allocate(parameters: ReadonlyMap<string, Parameter>, arenas = 4): ParameterArena {
    const layout = new Map<string, { offset: number; shape: readonly number[] }>();
    let length = 0;
    const place = (decays: boolean): void => {
      for (const [name, parameter] of parameters) {
        if (parameter.decays !== decays) continue;
        layout.set(name, { offset: length, shape: parameter.shape });
        length += Math.ceil(parameter.size / ALIGNMENT) * ALIGNMENT;
      }
    };
    place(true);
    const decayEnd = length;
    place(false);
    const memory = FlatMemory.reserve(length * arenas);
    return ParameterArena.over(memory, length, layout, decayEnd);
  }

  /** Zeroed storage of the same layout. */
  like(): ParameterArena {
    return ParameterArena.over(this.memory, this.data.length, this.layout, this.decayEnd);
  }

  /** Starts every parameter from its own random stream (seed, name): adding one changes no other. */
  initialize(parameters: ReadonlyMap<string, Parameter>, seed: number): this {
    for (const [name, view] of this.views) {
      startParameter(parameters.get(name)!, seed, name, view);
    }
    return this;
  }

  private static over(
    memory: FlatMemory,
    length: number,
    layout: ReadonlyMap<string, { readonly offset: number; readonly shape: readonly number[] }>,
    decayEnd: number,
  ): ParameterArena {
    const data = memory.take(length);
    const views = new Map<string, Float32Array>();
    for (const [name, { offset, shape }] of layout) {
      views.set(name, data.subarray(offset, offset + shape.reduce((a, b) => a * b, 1)));
    }
    return new ParameterArena(data, layout, views, decayEnd, memory);
  }
}

/** Fills a parameter as it is before training: from its own random stream, so that adding one changes no other. */
export function startParameter(parameter: Parameter, seed: number, name: string, out: Float32Array): void {
  parameter.initializer(streamKey(seed, 'parameter', parameter.stream ?? name), out);
}
