/**
 * Equal places in memory for the weights of one expert each.
 * @module
 */
import { FlatMemory, type WasmMemory } from '../../runtime/index.js';

/** What direct reads want their targets to start on and to be long: the block of every file system that we know. */
export const BLOCK = 4096;

/** WebAssembly memory ends at 4 GiB; what one block of places may take of it. */
const LARGEST = 2 ** 32 - 2 ** 20;

/** A number of bytes rounded up to whole {@link BLOCK}s. */
export function wholeBlocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

/** A place for one expert. */
export interface Slot {
  readonly data: Float32Array<ArrayBuffer>;
  /** The WebAssembly memory that it lies in; undefined where the system would not give any. */
  readonly memory: WasmMemory | undefined;
}

/**
 * Places of equal size, page-aligned, in as many blocks of WebAssembly memory as it takes: files are read straight into
 * them and sessions compute from them. Pages that were never written cost no memory.
 */
export class SlotMemory {
  readonly slots: readonly Slot[];
  /** Of one place. */
  readonly slotBytes: number;
  /** Whether every place starts on a {@link BLOCK}. */
  readonly aligned: boolean;

  /**
   * @param bytes what each place must hold.
   * @throws RangeError if one place is larger than a block of memory can be.
   */
  constructor(count: number, bytes: number) {
    this.slotBytes = wholeBlocks(bytes);
    if (this.slotBytes > LARGEST)
      throw new RangeError(`an expert of ${bytes} bytes is larger than the ${LARGEST} that a place can be`);
    const slots: Slot[] = [];
    const perBlock = this.slotBytes === 0 ? count : Math.floor(LARGEST / this.slotBytes);
    while (slots.length < count) {
      const some = Math.min(perBlock, count - slots.length);
      const floats = this.slotBytes / 4;
      const block = FlatMemory.reserve(some * floats);
      for (let i = 0; i < some; i++) {
        const data = block.take(floats) as Float32Array<ArrayBuffer>;
        slots.push({ data, memory: block.holds(data) ? block.memory : undefined });
      }
    }
    this.slots = slots;
    this.aligned = slots.every(({ data, memory }) => memory !== undefined && data.byteOffset % BLOCK === 0);
  }
}
