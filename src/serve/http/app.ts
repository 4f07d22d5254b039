/**
 * The routes behind their checks, as one function from requests to answers.
 * @module
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { HttpBindings } from '@hono/node-server';
import { Hono, type Context, type MiddlewareHandler } from 'hono';
import type { z } from 'zod';
import type { EngineClient } from '../engine-client.js';
import { accessLine } from './access-log.js';
import { ApiError, toApiError } from './api-error.js';
import { ApiKeys } from './api-keys.js';
import { addHeaders, checkDraining, checkHost, checkKey, corsHeaders, preflight } from './guard.js';
import type { HttpMetrics } from './http-metrics.js';
import { openApiDocument } from './openapi.js';
import { readJson } from './read-body.js';
import { checkBody, getRoute, type Exchange, type Route } from './route.js';
import { inputRoutes } from './routes/input-routes.js';
import { liveRoutes } from './routes/live-routes.js';
import { stateRoutes } from './routes/state-routes.js';
import { textRoutes } from './routes/text-routes.js';
import type { HttpSettings } from './settings.js';

/** What answers need to know of their server. */
export interface ServerContext {
  readonly client: EngineClient;
  readonly settings: HttpSettings;
  readonly metrics: HttpMetrics;
  /** Aborted when the server closes. */
  readonly closing: AbortSignal;
  /** Whether new requests are refused because the server is about to end. */
  readonly draining: boolean;
}

interface Environment {
  /** Absent where a request never was on a wire. */
  Bindings: Partial<HttpBindings>;
  Variables: { route: string; failure?: string };
}

/** Status in the log of a request whose client has left. */
const CLIENT_LEFT = 499;

/** All routes of a server. */
export function serverRoutes(settings: HttpSettings): readonly Route[] {
  const routes = [...textRoutes, ...inputRoutes, ...stateRoutes, ...liveRoutes(settings)];
  const document = getRoute({
    path: '/openapi.json',
    summary: 'This document.',
    handle: () => Response.json(openApiDocument([...routes, document], settings, packageVersion())),
  });
  return [...routes, document];
}

/** The application: each of its routes, and whatever is none, stands behind the same checks. */
export function createApp(server: ServerContext): Hono<Environment> {
  const { settings } = server;
  const routes = serverRoutes(settings);
  const keys = new ApiKeys(settings.apiKeys);
  const publicPaths = new Set(routes.filter(({ isPublic }) => isPublic).map(({ path }) => path));
  const drainPaths = new Set(routes.filter(({ whileDraining }) => whileDraining).map(({ path }) => path));
  const app = new Hono<Environment>();
  app.use('*', watch(server));
  app.use('*', async (context, next) => {
    const request = context.req.raw;
    checkHost(request, settings);
    const answer = preflight(request, settings);
    if (answer) return answer;
    if (!publicPaths.has(context.req.path)) checkKey(request, keys);
    if (!drainPaths.has(context.req.path)) checkDraining(server.draining);
    return next();
  });
  for (const route of routes) {
    const schema = route.body?.(settings);
    app.on(route.method, route.path, (context) => answer(server, route, schema, context));
  }
  for (const path of new Set(routes.map(({ path }) => path))) {
    const methods = routes.filter((route) => route.path === path).map(({ method }) => method);
    app.all(path, () => {
      throw new ApiError(405, 'invalid_request_error', `only ${methods.join(', ')} is understood here`, {
        code: 'method_not_allowed',
        headers: { allow: methods.join(', ') },
      });
    });
  }
  app.notFound(() =>
    new ApiError(404, 'not_found_error', 'there is nothing here', { code: 'not_found' }).response(),
  );
  app.onError((error, context) => {
    if (context.req.raw.signal.aborted) return new Response(null, { status: CLIENT_LEFT });
    const told = toApiError(error);
    if (told.status === 500) context.set('failure', error.stack ?? error.message);
    return told.response();
  });
  return app;
}

/** Counts, logs and completes what is answered. */
function watch({ settings, metrics }: ServerContext): MiddlewareHandler<Environment> {
  return async (context, next) => {
    const started = performance.now();
    const requestId = randomUUID();
    context.set('route', 'other');
    metrics.active++;
    const done = (): void => {
      const milliseconds = performance.now() - started;
      metrics.active--;
      metrics.answered(context.get('route'), context.res.status, milliseconds / 1000);
      const { method, path } = context.req;
      const failure = context.get('failure');
      const record = { method, path, status: context.res.status, milliseconds, requestId };
      settings.log(accessLine(failure === undefined ? record : { ...record, failure }));
    };
    // Streams last longer than their handlers.
    const outgoing = context.env?.outgoing;
    outgoing?.once('close', done);
    await next();
    addHeaders(context.res, corsHeaders(context.req.raw, settings), requestId);
    if (!outgoing) done();
  };
}

async function answer(
  server: ServerContext,
  route: Route,
  schema: z.ZodType | undefined,
  context: Context<Environment, string>,
): Promise<Response> {
  context.set('route', route.path);
  const request = context.req.raw;
  const body = schema && checkBody(schema, await readJson(request, server.settings.bodyLimit));
  const ending = new AbortController();
  const abandon = (reason: unknown): void => ending.abort(reason);
  const left = (): void => abandon(new Error('the client has left'));
  const outgoing = context.env?.outgoing;
  // A listener on the request's signal would keep every request for ever: undici's registry of requests that may be
  // collected holds their signals, and a signal its listeners.
  if (outgoing) outgoing.once('close', () => void (outgoing.writableFinished || left()));
  else request.signal.addEventListener('abort', left, { once: true });
  if (outgoing?.destroyed) left();
  const exchange: Exchange = {
    ...{ request, abandon },
    client: server.client,
    settings: server.settings,
    metrics: server.metrics,
    parameters: context.req.param(),
    signal: ending.signal,
    closing: server.closing,
    draining: server.draining,
    disconnect: () => void outgoing?.destroy(),
  };
  return route.handle(exchange, body);
}

function packageVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
