/**
 * Several streams of events as one.
 * @module
 */

/**
 * Events of all sources as they come, each with its source's index. Leaving the loop early, or a source that fails, ends
 * them all.
 */
export async function* merge<Event>(
  sources: readonly AsyncIterable<Event>[],
): AsyncGenerator<{ readonly source: number; readonly event: Event }> {
  const iterators = sources.map((source) => source[Symbol.asyncIterator]());
  const next = (source: number): Promise<{ source: number; result: IteratorResult<Event> }> => {
    const pending = iterators[source].next().then((result) => ({ source, result }));
    // Nobody waits while the reader takes its time: whoever asks again is told of a failure.
    pending.catch(() => undefined);
    return pending;
  };
  const waiting = new Map(iterators.map((_, source) => [source, next(source)]));
  try {
    while (waiting.size > 0) {
      const { source, result } = await Promise.race(waiting.values());
      if (result.done === true) waiting.delete(source);
      else {
        waiting.set(source, next(source));
        yield { source, event: result.value };
      }
    }
  } finally {
    for (const source of waiting.keys()) void iterators[source].return?.().catch(() => undefined);
  }
}
