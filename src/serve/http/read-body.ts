/**
 * Bodies of requests: of bounded length, in JSON, and nothing else.
 * @module
 */
import { ApiError, invalid } from './api-error.js';
import { JsonError, parseStrictJson } from './strict-json.js';

/**
 * Reads a JSON body.
 * @param limit bytes
 * @throws ApiError 415 for another content type, 413 above the limit, 400 where it is not JSON.
 */
export async function readJson(request: Request, limit: number): Promise<unknown> {
  checkType(request.headers);
  const bytes = await readBytes(request, limit);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalid(undefined, `the body is not UTF-8: ${(error as Error).message}`, 'invalid_json');
  }
  try {
    return parseStrictJson(text);
  } catch (error) {
    if (error instanceof JsonError) throw invalid(undefined, error.message, 'invalid_json');
    throw error;
  }
}

function checkType(headers: Headers): void {
  const [type, ...parameters] = (headers.get('content-type') ?? '').split(';');
  const charset = parameters
    .map((part) => part.trim().toLowerCase())
    .find((part) => part.startsWith('charset='));
  const known = charset === undefined || /^charset="?utf-8"?$/.test(charset);
  if (type.trim().toLowerCase() === 'application/json' && known) return;
  throw new ApiError(415, 'invalid_request_error', 'the body must be application/json in UTF-8', {
    code: 'unsupported_media_type',
  });
}

async function readBytes(request: Request, limit: number): Promise<Uint8Array> {
  if (Number(request.headers.get('content-length') ?? 0) > limit) throw tooLarge(limit);
  const parts: Uint8Array[] = [];
  let length = 0;
  const body: AsyncIterable<Uint8Array> | null = request.body;
  for await (const part of body ?? []) {
    length += part.byteLength;
    if (length > limit) throw tooLarge(limit);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function tooLarge(limit: number): ApiError {
  return new ApiError(413, 'invalid_request_error', `the body is longer than ${limit} bytes`, {
    code: 'body_too_large',
    headers: { connection: 'close' },
  });
}
