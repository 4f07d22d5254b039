/**
 * Server-sent events over a response that its reader may leave or stop reading.
 * @module
 */

/** How a stream is watched. */
export interface EventStreamOptions {
  /** Called once when the reader has left, or takes nothing for too long. */
  readonly abandon: (reason: Error) => void;
  /** Cuts the connection of a reader that takes nothing. */
  readonly disconnect: () => void;
  /** How long a reader may take nothing. */
  readonly stallMilliseconds: number;
}

/** One event: `data` in one line of JSON, or a text such as `[DONE]`. */
export function serverSentEvent(data: unknown, event?: string): string {
  const line = typeof data === 'string' ? data : JSON.stringify(data);
  return `${event === undefined ? '' : `event: ${event}\n`}data: ${line}\n\n`;
}

/**
 * A response of events. The next is asked for only when the reader has taken those before it, so that one who reads slowly
 * holds no memory; one who reads nothing for too long is left.
 *
 * @param events finished texts of {@link serverSentEvent}; must not throw.
 */
export function eventStream(events: AsyncIterable<string>, options: EventStreamOptions): Response {
  const iterator = events[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  let stall: NodeJS.Timeout | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(stall);
        const next = await iterator.next();
        if (next.done === true) return controller.close();
        controller.enqueue(encoder.encode(next.value));
        stall = setTimeout(() => {
          options.abandon(new Error(`nothing was read for ${options.stallMilliseconds} ms`));
          options.disconnect();
        }, options.stallMilliseconds);
        stall.unref();
      },
      cancel() {
        clearTimeout(stall);
        options.abandon(new Error('the client has left'));
        // A generator that waits for its next event only ends with it; nobody waits for that here.
        void iterator.return?.().catch(() => undefined);
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    },
  });
}
