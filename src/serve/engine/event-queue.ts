/**
 * Events from the engine to one reader, who may be slower.
 * @module
 */

/** Events that wait before the text behind them does. */
const MOST_WAITING = 64;

/** One writer, one reader. */
export class EventQueue<Event> {
  private readonly waiting: Event[] = [];
  private over = false;
  private error: Error | undefined;
  private wake: (() => void) | undefined;

  /** @param onDrained called when there is room again */
  constructor(private readonly onDrained: () => void) {}

  /** Whether the writer should wait. Nothing that is pushed is lost all the same. */
  get full(): boolean {
    return this.waiting.length >= MOST_WAITING;
  }

  push(event: Event): void {
    this.waiting.push(event);
    this.wake?.();
  }

  /** No more events come; the reader gets those that wait, and then the error if there is one. */
  end(error?: Error): void {
    if (this.over) return;
    this.over = true;
    this.error = error;
    this.wake?.();
  }

  /** No more events come; the reader gets the error at once. */
  fail(error: Error): void {
    if (this.over) return;
    this.waiting.length = 0;
    this.end(error);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    for (;;) {
      const wasFull = this.full;
      const event = this.waiting.shift();
      if (event !== undefined) {
        if (wasFull && !this.full) this.onDrained();
        yield event;
      } else if (this.error !== undefined) {
        throw this.error;
      } else if (this.over) {
        return;
      } else {
        await new Promise<void>((resolve) => (this.wake = resolve));
        this.wake = undefined;
      }
    }
  }
}
