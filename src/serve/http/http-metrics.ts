/**
 * What the HTTP server itself counts.
 * @module
 */

/** Upper bounds in seconds of how long answers took. */
const BOUNDS = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300];

/** Answers of one route. */
export interface RouteCounts {
  /** By status. */
  readonly statuses: Map<number, number>;
  /** Upper bounds in seconds, rising. */
  readonly bounds: readonly number[];
  /** One a bucket, not cumulative. */
  readonly counts: number[];
  /** Seconds. */
  sum: number;
  count: number;
}

/** Counters by route. Routes are those of the server, never paths that clients made up. */
export class HttpMetrics {
  readonly routes = new Map<string, RouteCounts>();
  /** Requests that are being answered. */
  active = 0;
  /** Live pages that are followed. */
  liveReaders = 0;
  /** Streams whose reader left or stopped reading before their end. */
  abandoned = 0;

  /** @param route its pattern; `other` where none matched */
  answered(route: string, status: number, seconds: number): void {
    const known = this.routes.get(route) ?? {
      statuses: new Map<number, number>(),
      bounds: BOUNDS,
      counts: new Array<number>(BOUNDS.length + 1).fill(0),
      sum: 0,
      count: 0,
    };
    this.routes.set(route, known);
    known.statuses.set(status, (known.statuses.get(status) ?? 0) + 1);
    const bucket = BOUNDS.findIndex((bound) => seconds <= bound);
    known.counts[bucket < 0 ? BOUNDS.length : bucket]++;
    known.sum += seconds;
    known.count++;
  }
}
