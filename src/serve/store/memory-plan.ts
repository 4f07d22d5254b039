/**
 * What is where under a memory budget.
 * @module
 */
import type { Placement } from '../engine-client.js';
import type { ColdTraits } from './cold-experts.js';
import { formatBytes } from './memory-size.js';

/** A budget in which a model does not run. */
export class MemoryBudgetError extends Error {
  override readonly name = 'MemoryBudgetError';

  constructor(
    readonly budget: number,
    /** The smallest budget that would do. */
    readonly least: number,
    message: string,
  ) {
    super(message);
  }
}

/** What a model needs, in bytes. */
export interface MemoryNeeds {
  /** Weights that every pass reads: everything but single experts. */
  readonly residentBytes: number;
  /** Keys and values of all texts that are written at once. */
  readonly keyValueBytes?: number | undefined;
  /** Buffers of the largest pass. */
  readonly scratchBytes?: number | undefined;
  /** Of all layers together. */
  readonly numExperts: number;
  /** A place for one expert. */
  readonly slotBytes: number;
  readonly cold: ColdTraits;
}

/** Where the parts of a model are. */
export interface MemoryPlan {
  /** The budget; what everything takes where there is none. */
  readonly budget: number;
  /** Experts that memory has places for. */
  readonly slots: number;
  /** Whether no expert ever has to give way. */
  readonly isAllInMemory: boolean;
  /** The smallest budget that would do: room for one expert. */
  readonly least: number;
  /** What memory will hold at most. */
  readonly bytes: number;
  readonly placement: readonly Placement[];
  /** How the experts that are not in memory are read. */
  readonly reads: string;
}

/**
 * Gives what is left of a budget to experts.
 *
 * @param budget bytes for everything; all experts are held when absent.
 * @throws MemoryBudgetError naming the least budget.
 */
export function planMemory(needs: MemoryNeeds, budget?: number): MemoryPlan {
  const { residentBytes, keyValueBytes = 0, scratchBytes = 0, numExperts, slotBytes, cold } = needs;
  const fixed = residentBytes + keyValueBytes + scratchBytes + cold.residentBytes;
  const least = fixed + (numExperts > 0 ? slotBytes : 0);
  const whole = fixed + numExperts * slotBytes;
  const limit = budget ?? whole;
  if (limit < least)
    throw new MemoryBudgetError(
      limit,
      least,
      `a memory budget of ${formatBytes(limit)} is too small: weights outside of experts take ` +
        `${formatBytes(residentBytes)}, keys and values ${formatBytes(keyValueBytes)}, buffers ${formatBytes(scratchBytes)}, ` +
        `${cold.residentBytes > 0 ? `centres ${formatBytes(cold.residentBytes)}, ` : ''}one expert ${formatBytes(slotBytes)}; ` +
        `give at least ${formatBytes(roundedUp(least))}`,
    );
  const slots = Math.min(numExperts, Math.floor((limit - fixed) / Math.max(1, slotBytes)));
  const away = numExperts - slots;
  const lines: Placement[] = [
    { what: 'weights outside of experts', where: 'memory', bytes: residentBytes },
    { what: 'keys and values', where: 'memory', bytes: keyValueBytes },
    { what: 'buffers of passes', where: 'memory', bytes: scratchBytes },
    { what: 'centres', where: 'memory', bytes: cold.residentBytes },
    { what: `places for ${slots} of ${numExperts} experts`, where: 'memory', bytes: slots * slotBytes },
    { what: `${away} experts at a time`, where: `disk (${cold.description})`, bytes: away * slotBytes },
  ];
  return {
    budget: limit,
    slots,
    isAllInMemory: away === 0,
    least,
    bytes: fixed + slots * slotBytes,
    placement: lines.filter(({ bytes }) => bytes > 0),
    reads: `page cache: ${cold.pageCache}${cold.reason === undefined ? '' : ` (${cold.reason})`}`,
  };
}

/** The next number of three digits and zeros, so that what is told would do. */
function roundedUp(bytes: number): number {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, bytes))) - 2);
  return Math.ceil(bytes / unit) * unit;
}
