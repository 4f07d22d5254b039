/**
 * Where the weights of experts are while they are not in memory.
 * @module
 */
import type { ExpertLayerInfo, ExpertRun } from './expert-store.js';
import type { Slot } from './slot-memory.js';

/** Where a parameter of an expert lies in its place in memory. */
export interface PlacedParameter {
  readonly name: string;
  /** First float, counted from the start of the place. */
  readonly offset: number;
  readonly length: number;
}

/** A layer of a cold tier, and how its experts lie once they are read. */
export interface ColdLayer extends ExpertLayerInfo {
  readonly placed: readonly PlacedParameter[];
}

/** How a cold tier reads. */
export interface ColdTraits {
  /** What it is, for people: `packed file, bfloat16`. */
  readonly description: string;
  /**
   * Whether reads go to the disk itself (O_DIRECT) or through the system's page cache, which may hold what was read before
   * in memory that no budget counts.
   */
  readonly pageCache: 'bypassed' | 'used';
  /** Why the page cache is used, where it could have been bypassed. */
  readonly reason?: string;
  /** Bytes that it keeps in memory itself: the centres of a compressed model. */
  readonly residentBytes: number;
}

/** All experts of a model, readable one by one. */
export interface ColdExperts {
  /** In the order in which a pass meets them. */
  readonly layers: readonly ColdLayer[];
  /** What a place must hold to take any expert. */
  readonly slotBytes: number;
  readonly traits: ColdTraits;
  /**
   * Reads one expert into a place. Several reads may run at once, each into its own place.
   * @returns bytes that were moved from the disk.
   * @throws whatever the files have wrong; the place then holds anything.
   */
  read(layer: number, expert: number, slot: Slot): Promise<number>;
  /** The program of the expert that was read into a place, where experts are programs instead of numbers. */
  runIn?(slot: Slot): ExpertRun;
  close(): Promise<void>;
}

/** Lays parameters out one after another without a gap, as packed files do. */
export function placeParameters(parameters: ExpertLayerInfo['parameters']): readonly PlacedParameter[] {
  let offset = 0;
  return Object.entries(parameters).map(([name, shape]) => {
    const length = shape.reduce((a, b) => a * b, 1);
    offset += length;
    return { name, offset: offset - length, length };
  });
}
