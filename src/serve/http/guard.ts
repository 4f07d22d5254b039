/**
 * What every request has to pass before it reaches a route.
 * @module
 */
import { ApiError, unavailable } from './api-error.js';
import type { ApiKeys } from './api-keys.js';
import { isHostAllowed, type HttpSettings } from './settings.js';

/** Headers of every answer. A page says itself what it may load. */
const headers: Readonly<Record<string, string>> = {
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
};

/**
 * Refuses names that are not this server's: a page whose own name points here (DNS rebinding) would otherwise count as of
 * the same origin.
 * @throws ApiError 421
 */
export function checkHost(request: Request, { host, allowedHosts }: HttpSettings): void {
  // A request that never was on a wire has its name in the URL alone.
  const named = request.headers.get('host') ?? new URL(request.url).host;
  if (!isHostAllowed(named, [host, ...allowedHosts]))
    throw new ApiError(
      421,
      'invalid_request_error',
      'this server is not known by the name in the Host header',
      {
        code: 'host_not_allowed',
      },
    );
}

/** @throws ApiError 401 without one of the keys. Keys in the query do not count: queries end up in logs. */
export function checkKey(request: Request, keys: ApiKeys): void {
  const given = request.headers.get('authorization');
  if (keys.admit(given)) return;
  const why = given === null ? 'an API key is needed' : 'the API key is not right';
  throw new ApiError(401, 'authentication_error', `${why}: send 'Authorization: Bearer KEY'`, {
    code: 'invalid_api_key',
    headers: { 'www-authenticate': 'Bearer' },
  });
}

/** @throws ApiError 503 where the server is about to end. */
export function checkDraining(draining: boolean): void {
  if (draining) throw unavailable('the server is about to end and takes no new requests', 'draining');
}

/** Headers by which a page of another origin may read the answer; none unless its origin was allowed. Never credentials. */
export function corsHeaders(
  request: Request,
  { allowedOrigins }: HttpSettings,
): Readonly<Record<string, string>> {
  if (allowedOrigins.length === 0) return {};
  const origin = request.headers.get('origin');
  if (allowedOrigins.includes('*')) return { 'access-control-allow-origin': '*' };
  if (origin === null || !allowedOrigins.includes(origin)) return { vary: 'Origin' };
  return { 'access-control-allow-origin': origin, vary: 'Origin' };
}

/** The answer to a page that asks whether it may send a request; undefined where it is no such question or may not. */
export function preflight(request: Request, settings: HttpSettings): Response | undefined {
  if (request.method !== 'OPTIONS' || !request.headers.has('access-control-request-method')) return undefined;
  const allowed = corsHeaders(request, settings);
  if (!('access-control-allow-origin' in allowed)) return undefined;
  return new Response(null, {
    status: 204,
    headers: {
      'access-control-allow-methods': 'GET, POST',
      'access-control-allow-headers': 'authorization, content-type',
      'access-control-max-age': '600',
    },
  });
}

/** Adds the headers that every answer has. */
export function addHeaders(
  response: Response,
  cors: Readonly<Record<string, string>>,
  requestId: string,
): void {
  for (const [name, value] of Object.entries({ ...headers, ...cors, 'x-request-id': requestId })) {
    if (!response.headers.has(name)) response.headers.set(name, value);
  }
}
