/**
 * What a store counts.
 * @module
 */
import type { ExpertStoreStats } from './expert-store.js';

/** Counters of a store, and the time that somebody waited. */
export class StoreCounts {
  private accesses = 0;
  private hits = 0;
  private steadyAccesses = 0;
  private steadyHits = 0;
  private prefetchedHits = 0;
  private latePrefetches = 0;
  private reads = 0;
  private prefetchReads = 0;
  private failedReads = 0;
  private unusedPrefetches = 0;
  private bytesRead = 0;
  private readMilliseconds = 0;
  private evictions = 0;
  private stalled = 0;
  private waiting = 0;
  private waitingSince = 0;

  /** @param warmUp accesses that the steady hit rate leaves out. */
  constructor(private readonly warmUp: number) {}

  access(isHit: boolean, isFirstUseOfPrefetch: boolean, isBeingRead: boolean): void {
    if (isHit) this.hits++;
    if (isHit && isFirstUseOfPrefetch) this.prefetchedHits++;
    if (isBeingRead) this.latePrefetches++;
    if (this.accesses++ < this.warmUp) return;
    this.steadyAccesses++;
    if (isHit) this.steadyHits++;
  }

  read(bytes: number, milliseconds: number, isPrefetch: boolean): void {
    this.reads++;
    if (isPrefetch) this.prefetchReads++;
    this.bytesRead += bytes;
    this.readMilliseconds += milliseconds;
  }

  failedRead(): void {
    this.failedReads++;
  }

  eviction(wasUnused: boolean): void {
    this.evictions++;
    if (wasUnused) this.unusedPrefetches++;
  }

  /** Somebody begins to wait for weights. */
  beginWait(): void {
    if (this.waiting++ === 0) this.waitingSince = performance.now();
  }

  endWait(): void {
    if (--this.waiting === 0) this.stalled += performance.now() - this.waitingSince;
  }

  snapshot(now: Pick<ExpertStoreStats, 'resident' | 'slots' | 'pinned' | 'pageCache'>): ExpertStoreStats {
    const stall = this.waiting > 0 ? performance.now() - this.waitingSince : 0;
    return {
      accesses: this.accesses,
      hits: this.hits,
      hitRate: this.steadyAccesses > 0 ? this.steadyHits / this.steadyAccesses : undefined,
      warmUp: this.warmUp,
      prefetchedHits: this.prefetchedHits,
      latePrefetches: this.latePrefetches,
      reads: this.reads,
      prefetchReads: this.prefetchReads,
      failedReads: this.failedReads,
      unusedPrefetches: this.unusedPrefetches,
      bytesRead: this.bytesRead,
      readMilliseconds: this.readMilliseconds,
      stallMilliseconds: this.stalled + stall,
      evictions: this.evictions,
      ...now,
    };
  }
}
