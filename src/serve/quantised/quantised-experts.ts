/**
 * A cold tier whose experts become programs of 4- or 8-bit weights when they are read.
 * @module
 */
import { FeedForwardBank } from '../../moe/index.js';
import type { Model } from '../../models/index.js';
import type { RuntimeOptions } from '../../runtime/index.js';
import { layersOfExperts } from '../engine/layers-of-experts.js';
import type { ColdExperts, ColdLayer, ColdTraits } from '../store/cold-experts.js';
import type { ExpertRun } from '../store/expert-store.js';
import type { Slot } from '../store/slot-memory.js';
import { openQuantisedExpert, type QuantisedExpert, type QuantisedWeights } from './expert-program.js';

/** Where rounded weights come from. */
export interface QuantisedSource {
  readonly layers: readonly ColdLayer[];
  readonly traits: ColdTraits;
  /** Bytes of the largest expert once it is rounded. */
  readonly largestBytes: number;
  /**
   * Reads one expert; several reads may run at once.
   * @param use is given the weights, which are valid until what it returns is settled.
   * @returns bytes that were moved from the disk.
   */
  read(layer: number, expert: number, use: (weights: QuantisedWeights) => Promise<void>): Promise<number>;
  close(): Promise<void>;
}

/**
 * An expert in memory is a session with its weights as constants, so a place of the store holds no weights itself: its
 * pages are never touched, its size only stands for what the session takes. The session of an expert that was evicted is
 * released when the next one takes its place.
 */
export class QuantisedExperts implements ColdExperts {
  readonly layers: readonly ColdLayer[];
  readonly slotBytes: number;
  readonly traits: ColdTraits;
  private readonly banks: readonly FeedForwardBank[];
  private readonly opened = new Map<Slot, QuantisedExpert>();

  /**
   * @param model whose layers the source has; with named parameters.
   * @throws RangeError if the experts are no ordinary ones: what is compressed already is not rounded.
   */
  constructor(
    private readonly source: QuantisedSource,
    model: Model,
    private readonly runtime: RuntimeOptions = {},
  ) {
    this.banks = ordinaryBanks(model);
    this.layers = source.layers;
    this.slotBytes = Math.ceil(SESSION_SHARE * source.largestBytes);
    this.traits = source.traits;
  }

  async read(layer: number, expert: number, slot: Slot): Promise<number> {
    const bank = this.banks[layer];
    return this.source.read(layer, expert, async (weights) => {
      await this.opened.get(slot)?.release();
      this.opened.delete(slot);
      this.opened.set(slot, await openQuantisedExpert(bank, weights, bank.up.shape[1], this.runtime));
    });
  }

  runIn(slot: Slot): ExpertRun {
    return this.opened.get(slot)!.run;
  }

  async close(): Promise<void> {
    for (const expert of this.opened.values()) await expert.release();
    this.opened.clear();
    await this.source.close();
  }
}

/**
 * The banks of a model, all of them ordinary ones.
 * @throws RangeError naming one whose experts are not.
 */
export function ordinaryBanks(model: Model): readonly FeedForwardBank[] {
  return layersOfExperts(model).map(({ name, bank }) => {
    if (bank instanceof FeedForwardBank) return bank;
    throw new RangeError(
      `${name} holds experts that are not ordinary matrices; only those can be rounded to 4 or 8 bits`,
    );
  });
}

/**
 * Memory of a session for each byte of its constants: 60 to 100 experts of 3.9 MB held 1.7 to 1.9 times their bytes
 * (bench/expert-sessions.mjs, onnxruntime-node 1.30).
 */
const SESSION_SHARE = 1.9;
