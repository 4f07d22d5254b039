/**
 * What an engine counts.
 * @module
 */
import type { EngineStats, Histogram } from '../engine-stats.js';
import type { Job, JobEnd } from './job.js';

/** Seconds: from a token of a small model to a long answer of a large one. */
const BOUNDS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500,
] as const;

/** Counts durations. */
export class DurationHistogram implements Histogram {
  readonly bounds = BOUNDS;
  readonly counts: number[] = new Array<number>(BOUNDS.length + 1).fill(0);
  sum = 0;
  count = 0;

  add(milliseconds: number): void {
    const seconds = milliseconds / 1000;
    const bucket = BOUNDS.findIndex((bound) => seconds <= bound);
    this.counts[bucket < 0 ? BOUNDS.length : bucket]++;
    this.sum += seconds;
    this.count++;
  }
}

/** The counters of {@link EngineStats}. */
export class Counters {
  readonly requests: Record<JobEnd, number> = {
    completed: 0,
    cancelled: 0,
    timedOut: 0,
    refused: 0,
    failed: 0,
  };
  promptTokens = 0;
  generatedTokens = 0;
  passes = 0;
  readonly queueSeconds = new DurationHistogram();
  readonly firstTokenSeconds = new DurationHistogram();
  readonly tokenSeconds = new DurationHistogram();
  readonly requestSeconds = new DurationHistogram();

  /** A request has ended. */
  ended(job: Job, how: JobEnd): void {
    this.requests[how]++;
    if (how === 'completed') this.requestSeconds.add(performance.now() - job.arrived);
  }

  /** A copy, for readers elsewhere. */
  snapshot(): Pick<
    EngineStats,
    | 'requests'
    | 'promptTokens'
    | 'generatedTokens'
    | 'passes'
    | 'queueSeconds'
    | 'firstTokenSeconds'
    | 'tokenSeconds'
    | 'requestSeconds'
  > {
    return structuredClone({ ...this });
  }
}
