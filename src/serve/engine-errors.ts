/**
 * Why a served model did not answer.
 * @module
 */

/** Codes of {@link EngineError}, for wires. */
export type EngineErrorCode = 'request' | 'queueFull' | 'timeLimit' | 'unavailable';

/** Any of the errors here; told apart by `code` or class. */
export abstract class EngineError extends Error {
  abstract readonly code: EngineErrorCode;
}

/** The request cannot be served as it is: `field` says what is wrong with it. */
export class RequestError extends EngineError {
  override readonly name = 'RequestError';
  readonly code = 'request';

  /** @param field path in the request, such as `logitBias.12`; empty for the whole */
  constructor(
    readonly field: string,
    message: string,
  ) {
    super(field === '' ? message : `${field}: ${message}`);
  }
}

/** As many requests wait as may wait. */
export class QueueFullError extends EngineError {
  override readonly name = 'QueueFullError';
  readonly code = 'queueFull';

  /** @param retryAfterSeconds when a place may be free, from how long requests took lately */
  constructor(
    readonly limit: number,
    readonly retryAfterSeconds: number,
  ) {
    super(`${limit} requests are waiting, as many as may: try again in ${retryAfterSeconds} s`);
  }
}

/** The request was not finished in its time. */
export class TimeLimitError extends EngineError {
  override readonly name = 'TimeLimitError';
  readonly code = 'timeLimit';

  constructor(readonly milliseconds: number) {
    super(`the request was not finished in its ${milliseconds} ms`);
  }
}

/** The engine is starting, stopping, or was lost; a later request may be served. */
export class EngineUnavailableError extends EngineError {
  override readonly name = 'EngineUnavailableError';
  readonly code = 'unavailable';
}
