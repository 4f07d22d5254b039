/**
 * What a store knows of an expert that has a place in memory.
 * @module
 */
import type { ExpertId } from './cache-policy.js';
import type { ExpertPlace } from './expert-store.js';
import type { Slot } from './slot-memory.js';

/** An expert that has a place. */
export interface Entry {
  readonly id: ExpertId;
  readonly layer: number;
  readonly expert: number;
  readonly slot: Slot;
  state: 'waiting' | 'reading' | 'ready' | 'failed';
  /** Leases, given or promised. */
  pins: number;
  /** Read ahead and not yet used. */
  isFresh: boolean;
  weights: Readonly<Record<string, Float32Array>>;
  /** Resolves when it can be used. */
  readonly ready: Promise<void>;
  readonly settle: (error?: Error) => void;
}

/** An entry whose weights are still to be read. */
export function createEntry(
  id: ExpertId,
  layer: number,
  expert: number,
  slot: Slot,
  isAhead: boolean,
): Entry {
  let settle!: Entry['settle'];
  const ready = new Promise<void>((resolve, reject) => {
    settle = (error) => (error ? reject(error) : resolve());
  });
  // Whoever waits is told; that nobody waits is no fault.
  ready.catch(() => undefined);
  return { id, layer, expert, slot, state: 'waiting', pins: 0, isFresh: isAhead, weights: {}, ready, settle };
}

/** Whether nobody uses an expert and no read writes into its place. */
export function isIdle({ state, pins }: Entry): boolean {
  return state === 'ready' && pins === 0;
}

/** Where an expert is; without an entry it has no place. */
export function placeOf(entry: Entry | undefined): ExpertPlace {
  if (!entry || entry.state === 'failed') return 'cold';
  if (entry.state !== 'ready') return 'reading';
  return entry.pins > 0 ? 'pinned' : 'ready';
}
