/**
 * What a served model counts.
 * @module
 */

import type { LayerExperts } from './store/expert-store.js';

/** How often a duration fell where. */
export interface Histogram {
  /** Upper bounds in seconds, rising; one more bucket holds what is above. */
  readonly bounds: readonly number[];
  /** One a bucket, not cumulative: `bounds.length + 1`. */
  readonly counts: readonly number[];
  /** Seconds. */
  readonly sum: number;
  readonly count: number;
}

/** How requests ended. */
export interface RequestCounts {
  readonly completed: number;
  /** By their callers. */
  readonly cancelled: number;
  readonly timedOut: number;
  /** Because the queue was full. */
  readonly refused: number;
  /** Because the engine was lost, or of a fault of ours. */
  readonly failed: number;
}

/** Counters since the server began, and what is the case now. */
export interface EngineStats {
  readonly queued: number;
  readonly running: number;
  /** Texts that can be written at once. */
  readonly slots: number;
  readonly queueLimit: number;
  readonly requests: RequestCounts;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Passes through the model. */
  readonly passes: number;
  /** From arrival to the first pass. */
  readonly queueSeconds: Histogram;
  /** From arrival to the first token. */
  readonly firstTokenSeconds: Histogram;
  /** Between two tokens of a text. */
  readonly tokenSeconds: Histogram;
  /** From arrival to the end, of requests that completed. */
  readonly requestSeconds: Histogram;
  /** How often the engine's process was started again. */
  readonly restarts: number;
  /** Resident bytes of the process that computes. */
  readonly residentBytes: number;
  /** Of the expert store, by name: hits, misses, bytesRead and so on; empty where all weights are in memory. */
  readonly store: Readonly<Record<string, number>>;
  /** Where experts are, in the order of the model's routed layers; absent where all are in memory for good. */
  readonly experts?: readonly LayerExperts[];
}
