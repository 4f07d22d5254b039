/**
 * A request that another process answers, as its reader here sees it.
 * @module
 */
import type { EngineEvent } from '../engine-client.js';
import { EventQueue } from '../engine/event-queue.js';

/** Events that are read before the sender is told. */
const REPORTED = 32;

/** Collects what comes until it is over. */
export class RemoteRequest {
  private readonly queue = new EventQueue<EngineEvent>(() => undefined);
  private readonly answered: Promise<readonly unknown[]>;
  private settle!: { resolve: (results: readonly unknown[]) => void; reject: (error: Error) => void };
  private done = false;
  /** Called when nobody reads it any more. */
  onLeave: () => void = () => undefined;

  /** @param onRead told how many events have been read since it was told last */
  constructor(
    readonly id: number,
    private readonly onRead: (count: number) => void,
  ) {
    this.answered = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    // A reader of events does not look here.
    this.answered.catch(() => undefined);
  }

  /** Whether the other side is through with it. */
  get over(): boolean {
    return this.done;
  }

  push(event: EngineEvent): void {
    this.queue.push(event);
  }

  answer(results: readonly unknown[]): void {
    this.settle.resolve(results);
  }

  end(): void {
    this.done = true;
    this.queue.end();
  }

  /** @param byOther whether the other side said so, and is through with it */
  fail(error: Error, byOther = false): void {
    this.done ||= byOther;
    this.queue.fail(error);
    this.settle.reject(error);
  }

  /** The other side is no more: what came from it is still read, and then the error. */
  lose(error: Error): void {
    this.done = true;
    this.queue.end(error);
    this.settle.reject(error);
  }

  /** What comes, as it comes. */
  async *events(): AsyncGenerator<EngineEvent> {
    let read = 0;
    for await (const event of this.queue) {
      yield event;
      if (++read % REPORTED === 0) this.onRead(REPORTED);
    }
  }

  results(): Promise<readonly unknown[]> {
    return this.answered;
  }
}
