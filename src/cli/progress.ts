/**
 * Progress of long work on standard error: one line that is drawn over on a terminal, plain lines when piped.
 * @module
 */

/** Seconds between plain lines when nobody watches. */
const PLAIN_INTERVAL = 10;

/** Milliseconds between redraws on a terminal. */
const REDRAW_INTERVAL = 100;

/** Draws a status line. */
export class Progress {
  private last = 0;
  private drawn = false;

  constructor(
    private readonly stream: NodeJS.WriteStream = process.stderr,
    private readonly quiet = false,
  ) {}

  /** Shows the status, unless the last one is too recent. */
  update(status: () => string): void {
    if (this.quiet) return;
    const now = performance.now();
    const interval = this.stream.isTTY ? REDRAW_INTERVAL : PLAIN_INTERVAL * 1000;
    if (this.last !== 0 && now - this.last < interval) return;
    this.last = now;
    if (this.stream.isTTY) {
      const text = status().slice(0, Math.max(20, (this.stream.columns || 80) - 1));
      this.stream.write(`\r\x1b[2K${text}`);
      this.drawn = true;
    } else {
      this.stream.write(`${status()}\n`);
    }
  }

  /** Writes a line that stays. */
  line(text: string): void {
    if (this.quiet) return;
    this.clear();
    this.stream.write(`${text}\n`);
  }

  /** Removes the status line. */
  clear(): void {
    if (this.drawn) this.stream.write('\r\x1b[2K');
    this.drawn = false;
  }
}

/** `1h02m`, `3m20s`, `45s` */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const whole = Math.round(seconds);
  if (whole >= 3600)
    return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
  if (whole >= 60) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`;
  return `${whole}s`;
}

/** `1.2M`, `34k`, `7.42B` */
export function formatCount(count: number): string {
  for (const [unit, suffix] of [
    [1e12, 'T'],
    [1e9, 'B'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (count >= unit) return `${(count / unit).toPrecision(3)}${suffix}`;
  }
  return String(Math.round(count));
}
