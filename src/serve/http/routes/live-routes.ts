/**
 * The live page and what it shows.
 * @module
 */
import { serverSentEvent, eventStream } from '../event-stream.js';
import { unavailable } from '../api-error.js';
import { pageFiles } from '../live/page-files.js';
import { getRoute, type Exchange, type Route } from '../route.js';
import type { HttpSettings } from '../settings.js';

/** What the page may do: run its own scripts and ask its own server. */
const pagePolicy = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
};

/** Routes of the live page; none where it is off. */
export function liveRoutes({ livePage }: HttpSettings): readonly Route[] {
  if (!livePage) return [];
  return [
    ...pageFiles().map(({ path, mediaType, read }) =>
      getRoute({
        path,
        summary: path === '/' ? 'The live page.' : 'A file of the live page.',
        isPublic: true,
        mediaType,
        handle: async () =>
          new Response(await read(), { headers: { 'content-type': mediaType, ...pagePolicy } }),
      }),
    ),
    getRoute({
      path: '/live/events',
      summary: 'Follows state, counters and the placement of experts as server-sent events.',
      mediaType: 'text/event-stream',
      whileDraining: false,
      handle: follow,
    }),
  ];
}

function follow(exchange: Exchange): Response {
  const { metrics, settings, abandon, disconnect } = exchange;
  if (metrics.liveReaders >= settings.maxLiveReaders)
    throw unavailable(
      `${settings.maxLiveReaders} live pages are followed, as many as may`,
      'too_many_readers',
    );
  return eventStream(snapshots(exchange), {
    abandon,
    disconnect,
    stallMilliseconds: settings.stallMilliseconds,
  });
}

/** Never throws: an engine that is away is a state to show. */
async function* snapshots({ client, metrics, settings, signal, closing }: Exchange): AsyncGenerator<string> {
  metrics.liveReaders++;
  let told = '';
  try {
    while (!signal.aborted && !closing.aborted) {
      try {
        const model = JSON.stringify(client.model);
        if (model !== told) yield serverSentEvent(model, 'model');
        told = model;
        const stats = await client.stats();
        yield serverSentEvent({ at: Date.now(), state: client.state, stats }, 'stats');
      } catch {
        yield serverSentEvent({ at: Date.now(), state: client.state }, 'stats');
      }
      await pause(settings.liveMilliseconds, [signal, closing]);
    }
  } finally {
    metrics.liveReaders--;
  }
}

/** Waits, no longer than until one of the signals is aborted. */
function pause(milliseconds: number, signals: readonly AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(end, milliseconds);
    function end(): void {
      clearTimeout(timer);
      for (const signal of signals) signal.removeEventListener('abort', end);
      resolve();
    }
    for (const signal of signals) signal.addEventListener('abort', end);
  });
}
