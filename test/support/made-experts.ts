/**
 * A cold tier without files: every weight of expert e of layer l is `1000 l + e`, and reads end when the test says so.
 * @module
 */
import { placeParameters, type ColdExperts, type ColdLayer } from '../../src/serve/store/cold-experts.js';
import type { Slot } from '../../src/serve/store/slot-memory.js';

/** A read that has begun. */
export interface BegunRead {
  readonly layer: number;
  readonly expert: number;
  finish(): void;
  fail(message: string): void;
}

/** See the module. */
export class MadeExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits = { description: 'made up', pageCache: 'bypassed', residentBytes: 0 } as const;
  /** All reads that have begun, in order. */
  readonly begun: BegunRead[] = [];
  closed = false;

  /**
   * @param numExperts of each layer.
   * @param floats of each expert.
   * @param isHeld whether reads wait for the test.
   */
  constructor(
    numExperts: readonly number[],
    private readonly floats = 6,
    private readonly isHeld = false,
  ) {
    const parameters = { up: [floats / 2, 1], down: [1, floats / 2] };
    this.slotBytes = floats * 4;
    this.layers = numExperts.map((count, layer) => ({
      name: `blocks.${layer}.feedForward.experts`,
      numExperts: count,
      parameters,
      transposed: true,
      expertBytes: floats * 4,
      placed: placeParameters(parameters),
    }));
  }

  async read(layer: number, expert: number, { data }: Slot): Promise<number> {
    // A place that is being written holds neither the old expert nor the new one.
    data.fill(NaN);
    await new Promise<void>((resolve, reject) => {
      const read = { layer, expert, finish: resolve, fail: (message: string) => reject(new Error(message)) };
      this.begun.push(read);
      if (!this.isHeld) setImmediate(resolve);
    });
    data.fill(1000 * layer + expert, 0, this.floats);
    return this.floats * 4;
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}
