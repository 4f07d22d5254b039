/**
 * What a route is: everything the server, its checks and its OpenAPI document know of it.
 * @module
 */
import type { z } from 'zod';
import type { EngineClient, ModelInfo } from '../engine-client.js';
import { ApiError, invalid } from './api-error.js';
import type { HttpMetrics } from './http-metrics.js';
import type { HttpSettings } from './settings.js';

/** One request while it is answered. */
export interface Exchange {
  readonly request: Request;
  readonly client: EngineClient;
  readonly settings: HttpSettings;
  readonly metrics: HttpMetrics;
  /** Parameters of the path. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Aborted when the client has left. */
  readonly signal: AbortSignal;
  /** Aborted when the server closes: ends what has no end of its own. */
  readonly closing: AbortSignal;
  /** Whether new requests are refused because the server is about to end. */
  readonly draining: boolean;
  /** Ends whatever is being computed for this request. */
  readonly abandon: (reason: Error) => void;
  /** Cuts the connection. */
  readonly disconnect: () => void;
}

/** A method and a path with its handler. */
export interface Route {
  readonly method: 'GET' | 'POST';
  /** As hono writes it: `/v1/models/:model`. */
  readonly path: string;
  /** One sentence. */
  readonly summary: string;
  /** Whether it is open without a key. Only what tells nothing about requests may be. */
  readonly isPublic: boolean;
  /** Whether it is answered while the server drains. */
  readonly whileDraining: boolean;
  /** Of the JSON body, where there is one; it may depend on limits. */
  readonly body?: (settings: HttpSettings) => z.ZodType;
  /** Of a JSON answer. */
  readonly answer?: z.ZodType;
  /** Media type of the answer; `application/json` when absent. */
  readonly mediaType?: string;
  /** @param body checked by the schema; undefined where there is none. */
  readonly handle: (exchange: Exchange, body: unknown) => Promise<Response> | Response;
}

/** A route whose body has a schema. */
export function postRoute<Schema extends z.ZodType>({
  body,
  handle,
  ...route
}: Pick<Route, 'path' | 'summary' | 'answer'> & {
  readonly body: (settings: HttpSettings) => Schema;
  readonly handle: (exchange: Exchange, body: z.output<Schema>) => Promise<Response>;
}): Route {
  return {
    ...route,
    method: 'POST',
    isPublic: false,
    whileDraining: false,
    body,
    handle: (exchange, value) => handle(exchange, value as z.output<Schema>),
  };
}

/** A route that only tells something. */
export function getRoute(
  route: Pick<Route, 'path' | 'summary' | 'answer' | 'mediaType' | 'handle'> &
    Partial<Pick<Route, 'isPublic' | 'whileDraining'>>,
): Route {
  return { isPublic: false, whileDraining: true, ...route, method: 'GET' };
}

/**
 * The model that a request names.
 * @throws ApiError 404 for another one, 400 for a task that it has not; EngineUnavailableError before it is open.
 */
export function requestedModel(
  { client }: Exchange,
  name: string | null | undefined,
  task?: ModelInfo['tasks'][number],
): ModelInfo {
  const { model } = client;
  if (name != null && name !== model.name)
    throw new ApiError(404, 'not_found_error', `the model '${name}' is not served here: '${model.name}' is`, {
      param: 'model',
      code: 'model_not_found',
    });
  if (task !== undefined && !model.tasks.includes(task))
    throw invalid(
      'model',
      `'${model.name}' does not ${task}: it can ${model.tasks.join(', ')}`,
      'unsupported_task',
    );
  return model;
}

/**
 * A body by its schema.
 * @throws ApiError 400 that names the first field that is wrong.
 */
export function checkBody<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  // What is misspelt explains what is missing.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  const path = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const field = [...path, issue.keys[0]].join('.');
    throw invalid(field, 'there is no such field here', 'unknown_field');
  }
  throw invalid(path.join('.') || undefined, issue.message);
}
