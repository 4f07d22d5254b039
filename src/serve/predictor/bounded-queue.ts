/**
 * A first-in-first-out queue with room for a few: who is too fast waits.
 * @module
 */

/** Entries in the order in which they were put. */
export class BoundedQueue<T> {
  private readonly entries: T[] = [];
  private readonly putting: (() => void)[] = [];
  private readonly taking: (() => void)[] = [];
  private ended = false;

  /** @throws RangeError if the capacity is not a whole number of at least 1. */
  constructor(readonly capacity: number) {
    if (!Number.isSafeInteger(capacity) || capacity < 1)
      throw new RangeError(`a queue has room for at least 1 entry, not ${capacity}`);
  }

  /** Entries now. */
  get length(): number {
    return this.entries.length;
  }

  /**
   * Adds an entry; waits while the queue is full.
   * @throws Error if the queue has ended.
   */
  async put(entry: T): Promise<void> {
    while (!this.ended && this.entries.length >= this.capacity)
      await new Promise<void>((resolve) => this.putting.push(resolve));
    if (this.ended) throw new Error('the queue has ended: nothing can be put into it');
    this.entries.push(entry);
    this.taking.shift()?.();
  }

  /** The oldest entry; waits while there is none. Undefined when the queue has ended and is empty. */
  async take(): Promise<T | undefined> {
    while (!this.ended && this.entries.length === 0)
      await new Promise<void>((resolve) => this.taking.push(resolve));
    const entry = this.entries.shift();
    this.putting.shift()?.();
    return entry;
  }

  /** No more entries will come; those that are there can be taken. Wakes all who wait. */
  end(): void {
    this.ended = true;
    for (const wake of [...this.putting.splice(0), ...this.taking.splice(0)]) wake();
  }
}
