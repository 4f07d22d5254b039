/**
 * A request from its arrival to its end, whatever it asks for.
 * @module
 */
import type { RequestCounts } from '../engine-stats.js';
import { TimeLimitError } from '../engine-errors.js';

/** How a request ended. */
export type JobEnd = keyof RequestCounts;

/** What every job is told. */
export interface JobOptions {
  readonly timeLimitMilliseconds: number;
  readonly signal?: AbortSignal | undefined;
  /** Called once. */
  readonly onEnd: (job: Job, how: JobEnd) => void;
}

/** Ends once: completed, cancelled, out of time or failed. What it holds in the engine is taken away between two passes. */
export abstract class Job {
  /** Milliseconds of `performance.now()`. */
  readonly arrived = performance.now();
  /** When it left the queue. */
  started: number | undefined;
  private ended = false;
  private readonly timer: NodeJS.Timeout;
  private readonly onAbort = (): void => this.fail(abortError(this.options.signal!), 'cancelled');

  constructor(private readonly options: JobOptions) {
    const { timeLimitMilliseconds, signal } = options;
    this.timer = setTimeout(
      () => this.fail(new TimeLimitError(timeLimitMilliseconds), 'timedOut'),
      timeLimitMilliseconds,
    );
    signal?.addEventListener('abort', this.onAbort);
  }

  get over(): boolean {
    return this.ended;
  }

  /** Ends with an error for whoever waits. Nothing happens if it has ended. */
  fail(error: Error, how: Exclude<JobEnd, 'completed' | 'refused'>): void {
    if (this.end(how)) this.reject(error);
  }

  /** Ends well. */
  complete(): void {
    if (this.end('completed')) this.resolve();
  }

  protected abstract reject(error: Error): void;
  protected abstract resolve(): void;

  private end(how: JobEnd): boolean {
    if (this.ended) return false;
    this.ended = true;
    clearTimeout(this.timer);
    this.options.signal?.removeEventListener('abort', this.onAbort);
    this.options.onEnd(this, how);
    return true;
  }
}

/** The reason of a signal, as an error. */
export function abortError({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new DOMException(String(reason), 'AbortError');
}
