/**
 * Experts in a bounded number of places in memory, read from a cold tier when they are needed or expected.
 * @module
 */
import { chooseVictim, ExpertNumbers, type CachePolicy, type ExpertId } from './cache-policy.js';
import type { ColdExperts, ColdLayer } from './cold-experts.js';
import { createEntry, isIdle, placeOf, type Entry } from './entry.js';
import { Expectations } from './expectations.js';
import type {
  ExpertLease,
  ExpertStore,
  ExpertStoreEvent,
  ExpertStoreStats,
  LayerExperts,
} from './expert-store.js';
import { SlotMemory, type Slot } from './slot-memory.js';
import { StoreCounts } from './store-counts.js';
import { ExpertReadError, StoreClosedError } from './store-errors.js';

/** How {@link PagedExpertStore} works. */
export interface PagedStoreOptions {
  /** Experts that memory has places for. */
  readonly slots: number;
  readonly policy: CachePolicy;
  /**
   * Reads that run at once. A computation blocks the thread, so reads that are to go on beside it must have begun before;
   * and what is needed at once waits for those that have. As many as 64 MiB hold when absent, 4 to 32.
   */
  readonly readsAtOnce?: number;
  /** Accesses that the hit rate leaves out; as many as there are places when absent. */
  readonly warmUp?: number;
}

/** An acquire that waits for places. */
interface Request {
  readonly layer: number;
  readonly ids: readonly ExpertId[];
  readonly admit: (entries: readonly Entry[]) => void;
  readonly refuse: (error: Error) => void;
}

/**
 * See the module. What is given out is the same whatever is in memory, and so is every result; which experts are evicted
 * depends on how fast reads are where several are under way.
 */
export class PagedExpertStore implements ExpertStore {
  readonly layers: readonly ColdLayer[];
  readonly maxPinned: number;
  private readonly memory: SlotMemory;
  private readonly free: Slot[];
  private readonly numbers: ExpertNumbers;
  private readonly entries = new Map<ExpertId, Entry>();
  /** Announced and not yet acquired, and how often. */
  private readonly announced = new Map<ExpertId, number>();
  /** Of those, what there was no place for yet. */
  private readonly unplaced: ExpertId[] = [];
  private readonly requests: Request[] = [];
  /** Entries that somebody needs, before their read. */
  private readonly urgent: Entry[] = [];
  private readonly expectations: Expectations;
  private readonly counts: StoreCounts;
  private readonly listeners = new Set<(event: ExpertStoreEvent) => void>();
  private readonly policy: CachePolicy;
  /** By id. */
  private readonly accesses: Uint32Array;
  private readonly readsAtOnce: number;
  private readonly running = new Set<Promise<void>>();
  private closed: Promise<void> | undefined;

  /** @throws RangeError if there is not one place, or an expert is larger than a place can be. */
  constructor(
    private readonly cold: ColdExperts,
    { slots, policy, readsAtOnce = readsFor(cold.slotBytes), warmUp = slots }: PagedStoreOptions,
  ) {
    if (!(slots >= 1)) throw new RangeError(`a store needs room for at least one expert, not ${slots}`);
    this.layers = cold.layers;
    this.numbers = new ExpertNumbers(cold.layers.map(({ numExperts }) => numExperts));
    this.maxPinned = Math.min(slots, this.numbers.total);
    this.memory = new SlotMemory(this.maxPinned, cold.slotBytes);
    this.free = this.memory.slots.toReversed();
    this.policy = policy;
    this.accesses = new Uint32Array(this.numbers.total);
    this.expectations = new Expectations(policy);
    this.counts = new StoreCounts(warmUp);
    this.readsAtOnce = readsAtOnce;
  }

  get stats(): ExpertStoreStats {
    let [resident, pinned] = [0, 0];
    for (const { state, pins } of this.entries.values()) {
      if (state === 'ready') resident++;
      if (pins > 0) pinned++;
    }
    const { pageCache } = this.cold.traits;
    return this.counts.snapshot({ resident, pinned, slots: this.maxPinned, pageCache });
  }

  get experts(): readonly LayerExperts[] {
    return this.layers.map(({ numExperts }, layer) => {
      const ids = Array.from({ length: numExperts }, (_, expert) => this.numbers.idOf(layer, expert));
      return {
        places: ids.map((id) => placeOf(this.entries.get(id))),
        accesses: ids.map((id) => this.accesses[id]),
      };
    });
  }

  observe(listener: (event: ExpertStoreEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Reads what the policy places in memory, or as many experts as fit where it does not care.
   * @throws ExpertReadError
   */
  async preload(): Promise<void> {
    this.checkOpen();
    const ids = this.policy.placement ?? Array.from({ length: this.numbers.total }, (_, id) => id);
    const entries = ids
      .filter((id) => !this.entries.has(id))
      .slice(0, this.free.length)
      .map((id) => this.place(id, this.free.pop()!));
    this.urgent.push(...entries);
    this.pump();
    await Promise.all(entries.map(({ ready }) => ready));
  }

  announce(layer: number, experts: readonly number[]): readonly boolean[] {
    this.checkOpen();
    const ids = [...new Set(experts)].map((expert) => this.numbers.idOf(layer, expert));
    const hits = this.count(layer, ids);
    for (const id of ids) this.announced.set(id, (this.announced.get(id) ?? 0) + 1);
    for (const id of ids) {
      if (this.entries.has(id)) continue;
      const slot = this.takeSlot((entry) => !this.announced.has(entry.id));
      if (slot) this.urgent.push(this.place(id, slot));
      else this.unplaced.push(id);
    }
    this.pump();
    return hits;
  }

  withdraw(layer: number, experts: readonly number[]): void {
    for (const expert of new Set(experts)) this.unannounce(this.numbers.idOf(layer, expert));
    this.pump();
  }

  async acquire(layer: number, experts: readonly number[]): Promise<readonly ExpertLease[]> {
    this.checkOpen();
    const ids = [...new Set(experts)].map((expert) => this.numbers.idOf(layer, expert));
    if (ids.length > this.maxPinned)
      throw new RangeError(
        `${ids.length} experts are asked for at once, but memory holds ${this.maxPinned}; acquire them in parts`,
      );
    this.count(
      layer,
      ids.filter((id) => !this.announced.has(id)),
    );
    const admitted = new Promise<readonly Entry[]>((admit, refuse) => {
      this.requests.push({ layer, ids, admit, refuse });
    });
    this.admit();
    const entries = await this.waited(admitted, ids);
    // A caller who asks for the same expert twice gets two leases.
    const leases = experts.map((expert) => this.lease(entries.find((entry) => entry.expert === expert)!));
    for (const entry of entries) this.unpin(entry);
    return leases;
  }

  prefetch(layer: number, experts: readonly number[], priority = 0): void {
    if (this.closed) return;
    for (const expert of experts) {
      const id = this.numbers.idOf(layer, expert);
      this.expectations.add(layer, id, -priority, !this.entries.has(id));
    }
    this.pump();
  }

  close(): Promise<void> {
    this.closed ??= this.end();
    return this.closed;
  }

  private async end(): Promise<void> {
    for (const { refuse } of this.requests.splice(0)) refuse(new StoreClosedError());
    for (const entry of this.urgent.splice(0)) this.fail(entry, new StoreClosedError());
    await Promise.all(this.running);
    await this.cold.close();
  }

  private checkOpen(): void {
    if (this.closed) throw new StoreClosedError();
  }

  /** Counts accesses and tells the policy of them. */
  private count(layer: number, ids: readonly ExpertId[]): boolean[] {
    if (ids.length === 0) return [];
    this.expectations.forget(layer);
    const hits = ids.map((id) => {
      const entry = this.entries.get(id);
      const hit = entry?.state === 'ready';
      this.counts.access(hit, entry?.isFresh === true, !hit && entry?.isFresh === true);
      if (entry) entry.isFresh = false;
      this.accesses[id]++;
      this.emit({ kind: 'access', layer, expert: this.numbers.expertOf(id), hit });
      return hit;
    });
    this.policy.needed(layer, ids);
    return hits;
  }

  /** Gives places to requests, in their order, as long as there are enough: all of a request's at once. */
  private admit(): void {
    for (let request = this.requests[0]; request; request = this.requests[0]) {
      const wanted = new Set(request.ids);
      const missing = request.ids.filter((id) => !this.entries.has(id));
      let room = this.free.length;
      for (const entry of this.entries.values()) if (isIdle(entry) && !wanted.has(entry.id)) room++;
      if (missing.length > room) break;
      this.requests.shift();
      // What is there is held first, so that nothing of the request gives way for the rest of it.
      for (const id of request.ids) {
        const entry = this.entries.get(id);
        if (entry) entry.pins++;
        this.unannounce(id);
      }
      for (const id of missing) {
        const slot = this.takeSlot((entry) => !this.announced.has(entry.id)) ?? this.takeSlot(() => true);
        const entry = this.place(id, slot!);
        entry.pins++;
        this.urgent.push(entry);
      }
      request.admit(request.ids.map((id) => this.entries.get(id)!));
    }
    this.pump();
  }

  private unannounce(id: ExpertId): void {
    const times = this.announced.get(id) ?? 0;
    if (times > 1) this.announced.set(id, times - 1);
    else this.announced.delete(id);
  }

  /** Waits until all entries of a request can be used; if one cannot, the others are let go. */
  private async waited(
    admitted: Promise<readonly Entry[]>,
    ids: readonly ExpertId[],
  ): Promise<readonly Entry[]> {
    const isThere = ids.every((id) => this.entries.get(id)?.state === 'ready');
    if (!isThere) this.counts.beginWait();
    try {
      const entries = await admitted;
      const results = await Promise.allSettled(entries.map(({ ready }) => ready));
      const failed = results.find((result) => result.status === 'rejected');
      if (!failed) return entries;
      for (const entry of entries) this.unpin(entry);
      throw failed.reason as Error;
    } finally {
      if (!isThere) this.counts.endWait();
    }
  }

  private lease(entry: Entry): ExpertLease {
    entry.pins++;
    let isHeld = true;
    const release = (): void => {
      if (!isHeld) return;
      isHeld = false;
      this.unpin(entry);
    };
    const { layer, expert, weights, slot } = entry;
    const run = this.cold.runIn?.(slot);
    return { layer, expert, weights, ...(run && { run }), release };
  }

  private unpin(entry: Entry): void {
    if (--entry.pins === 0) this.admit();
  }

  /** A place: a free one, or that of an idle expert that may go. */
  private takeSlot(mayGo: (entry: Entry) => boolean): Slot | undefined {
    if (this.free.length > 0) return this.free.pop();
    const candidates: ExpertId[] = [];
    for (const entry of this.entries.values()) if (isIdle(entry) && mayGo(entry)) candidates.push(entry.id);
    const victim = chooseVictim(this.policy, candidates);
    if (victim === undefined) return undefined;
    const { slot, layer, expert, isFresh } = this.entries.get(victim)!;
    this.entries.delete(victim);
    this.policy.evicted(victim);
    this.counts.eviction(isFresh);
    this.emit({ kind: 'evicted', layer, expert });
    return slot;
  }

  /** Gives an expert a place; it must be read yet. */
  private place(id: ExpertId, slot: Slot, isAhead = false): Entry {
    const entry = createEntry(id, this.numbers.layerOf(id), this.numbers.expertOf(id), slot, isAhead);
    this.entries.set(id, entry);
    this.expectations.taken(id);
    this.policy.loaded(id);
    return entry;
  }

  /** Starts reads as far as there is room: those that are waited for, that are announced, that are expected. */
  private pump(): void {
    while (this.running.size < this.readsAtOnce && !this.closed) {
      const entry = this.urgent.shift() ?? this.placeAnnounced() ?? this.placeExpected();
      if (!entry) return;
      const reading = this.read(entry).finally(() => {
        this.running.delete(reading);
        this.admit();
      });
      this.running.add(reading);
    }
  }

  /** The next announced expert that had no place, if something that nobody announced may give way for it. */
  private placeAnnounced(): Entry | undefined {
    for (let id = this.unplaced[0]; this.unplaced.length > 0; id = this.unplaced[0]) {
      if (this.announced.has(id) && !this.entries.has(id)) {
        const slot = this.takeSlot((entry) => !this.announced.has(entry.id));
        if (!slot) return undefined;
        this.unplaced.shift();
        return this.place(id, slot);
      }
      this.unplaced.shift();
    }
    return undefined;
  }

  /** The most urgent expectation, if something may give way for it. */
  private placeExpected(): Entry | undefined {
    const next = this.expectations.next();
    if (!next) return undefined;
    const dueOf = (entry: Entry): number =>
      this.announced.has(entry.id) ? -Infinity : this.expectations.dueOf(entry.layer, entry.id);
    const slot =
      this.takeSlot((entry) => dueOf(entry) === Infinity) ??
      this.takeSlot((entry) => dueOf(entry) > next.due);
    return slot && this.place(next.id, slot, true);
  }

  private async read(entry: Entry): Promise<void> {
    const { layer, expert, slot } = entry;
    const ahead = entry.isFresh;
    entry.state = 'reading';
    const start = performance.now();
    try {
      const bytes = await this.cold.read(layer, expert, slot);
      const milliseconds = performance.now() - start;
      this.counts.read(bytes, milliseconds, ahead);
      entry.weights = this.weightsIn(slot, layer);
      entry.state = 'ready';
      entry.settle();
      this.emit({ kind: 'read', layer, expert, bytes, milliseconds, ahead });
    } catch (error) {
      this.counts.failedRead();
      // What was read ahead in vain is read once more for those who need it by now.
      const isNeeded = entry.pins > 0 || this.announced.has(entry.id);
      if (!ahead || !isNeeded || this.closed)
        return this.fail(entry, new ExpertReadError(this.layers[layer].name, expert, error));
      entry.state = 'waiting';
      entry.isFresh = false;
      this.urgent.push(entry);
    }
  }

  private fail(entry: Entry, error: Error): void {
    entry.state = 'failed';
    this.entries.delete(entry.id);
    this.policy.evicted(entry.id);
    this.free.push(entry.slot);
    entry.settle(error);
  }

  private weightsIn({ data }: Slot, layer: number): Readonly<Record<string, Float32Array>> {
    const views = this.layers[layer].placed.map(
      ({ name, offset, length }) => [name, data.subarray(offset, offset + length)] as const,
    );
    return Object.fromEntries(views);
  }

  private emit(event: ExpertStoreEvent): void {
    for (const listener of this.listeners) listener(event);
  }
}

/** Reads that keep a disk busy while a computation blocks the thread, without keeping what is urgent waiting. */
function readsFor(slotBytes: number): number {
  return Math.min(32, Math.max(4, Math.floor((64 << 20) / slotBytes)));
}
