/**
 * Errors as OpenAI's API tells them.
 * @module
 */
import { EngineUnavailableError, QueueFullError, RequestError, TimeLimitError } from '../engine-errors.js';

/** `error.type` of the API. */
export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'timeout_error'
  | 'service_unavailable_error'
  | 'server_error';

/** Details of an {@link ApiError}. */
export interface ApiErrorDetails {
  /** Path of the field that is wrong, such as `messages.0.content`. */
  readonly param?: string;
  /** For programs, such as `queue_full`. */
  readonly code?: string;
  /** Headers of the answer. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** What is answered instead of a result. */
export class ApiError extends Error {
  override readonly name = 'ApiError';

  constructor(
    readonly status: 400 | 401 | 403 | 404 | 405 | 408 | 413 | 415 | 421 | 429 | 500 | 503 | 504,
    readonly type: ApiErrorType,
    message: string,
    readonly details: ApiErrorDetails = {},
  ) {
    super(message);
  }

  /** The body of the answer. */
  get body(): { readonly error: Readonly<Record<'message' | 'type' | 'param' | 'code', string | null>> } {
    const { param, code } = this.details;
    return { error: { message: this.message, type: this.type, param: param ?? null, code: code ?? null } };
  }

  /** The answer itself. */
  response(): Response {
    return Response.json(this.body, { status: this.status, headers: this.details.headers ?? {} });
  }
}

/** A field that is not what it should be. */
export function invalid(param: string | undefined, message: string, code = 'invalid_value'): ApiError {
  return new ApiError(400, 'invalid_request_error', param ? `${param}: ${message}` : message, {
    code,
    ...(param && { param }),
  });
}

/** Names that fields of the engine's requests have in the API, where they differ. */
const fieldNames: Readonly<Record<string, string>> = {
  maxTokens: 'max_tokens',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  repetitionPenalty: 'repetition_penalty',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  logitBias: 'logit_bias',
  stopTokens: 'stop_token_ids',
  topLogProbabilities: 'logprobs',
  inputs: 'input',
  routing: 'switchyard.routed_experts',
  'prompt.text': 'prompt',
  'prompt.ids': 'prompt',
  'prompt.messages': 'messages',
};

/** The API's path of a field of the engine's requests. */
function apiField(field: string): string {
  const known = Object.keys(fieldNames).find((name) => field === name || field.startsWith(`${name}.`));
  return known === undefined ? field : fieldNames[known] + field.slice(known.length);
}

/** What the API says about anything that was thrown. Faults of our own tell nothing of their cause. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof RequestError) {
    const param = apiField(error.field);
    const reason = error.message.slice(error.field === '' ? 0 : error.field.length + 2);
    return invalid(param || undefined, reason);
  }
  if (error instanceof QueueFullError) {
    const headers = { 'retry-after': String(Math.max(1, Math.ceil(error.retryAfterSeconds))) };
    return new ApiError(429, 'rate_limit_error', error.message, { code: 'queue_full', headers });
  }
  if (error instanceof TimeLimitError)
    return new ApiError(504, 'timeout_error', error.message, { code: 'time_limit' });
  if (error instanceof EngineUnavailableError) return unavailable(error.message, 'engine_unavailable');
  return new ApiError(500, 'server_error', 'the server failed to answer; its log says why', {
    code: 'internal_error',
  });
}

/** The service is away for a while. */
export function unavailable(message: string, code: string): ApiError {
  const headers = { 'retry-after': '2' };
  return new ApiError(503, 'service_unavailable_error', message, { code, headers });
}
