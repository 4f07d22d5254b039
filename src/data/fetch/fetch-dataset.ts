/**
 * Downloads a file of known size and hash, and goes on where it was cut off.
 * @module
 */
import { createHash } from 'node:crypto';
import { createReadStream, statSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** How far a download is. */
export interface FetchProgress {
  /** Bytes on disk, those of earlier attempts included. */
  readonly received: number;
  /** Bytes of the whole file. */
  readonly total: number;
}

/** Options of {@link fetchDataset}. */
export interface FetchDatasetOptions {
  readonly url: string;
  /** Exact size in bytes. */
  readonly bytes: number;
  /** Hash of the content, 64 hexadecimal digits. */
  readonly sha256: string;
  /** Path of the file. What is not complete lies beside it as `<target>.part`. */
  readonly target: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: FetchProgress) => void;
}

/**
 * Downloads `url` to `target`. A file that is there with the right content is kept. A partial download is continued by
 * an HTTP range; if the server ignores the range, or the joined content has the wrong hash, it starts from zero.
 * The file gets its name only when size and hash are right.
 *
 * @throws Error in one line: the server's status, a wrong size, a wrong hash, or a lost connection (what has come is
 *   kept for the next call). An abort throws the signal's reason and keeps what has come, too.
 */
export async function fetchDataset(options: FetchDatasetOptions): Promise<void> {
  const { target, bytes, sha256 } = options;
  if (sizeOf(target) === bytes && (await hashOf(target)) === sha256) return;
  await mkdir(dirname(target), { recursive: true });
  const part = `${target}.part`;
  let resumed = sizeOf(part) > 0;
  if (sizeOf(part) > bytes) await rm(part);
  for (;;) {
    if (sizeOf(part) < bytes) resumed = (await download(options, part)) && resumed;
    const found = await hashOf(part);
    if (found === sha256) break;
    await rm(part);
    // The beginning may be of an older version of the file.
    if (resumed) resumed = false;
    else
      throw new Error(`${options.url} has other content than expected: sha256 ${found} instead of ${sha256}`);
  }
  await rename(part, target);
}

/** Writes the rest of the file; returns whether the server continued where the part ends. */
async function download(options: FetchDatasetOptions, part: string): Promise<boolean> {
  const { url, bytes, signal, onProgress } = options;
  const have = sizeOf(part);
  // Compressed transfer would make byte ranges those of the compressed form.
  const headers = { 'accept-encoding': 'identity', ...(have > 0 && { range: `bytes=${have}-` }) };
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(signal && { signal }) });
  } catch (error) {
    signal?.throwIfAborted();
    throw new Error(`cannot reach ${url}: ${reasonOf(error)}`, { cause: error });
  }
  if (response.status === 416 && have > 0) {
    await response.body?.cancel();
    await rm(part, { force: true });
    return download(options, part);
  }
  if (!response.ok || !response.body) {
    await response.body?.cancel();
    throw new Error(`${url}: the server answered ${response.status} ${response.statusText}`.trimEnd());
  }
  const continues =
    response.status === 206 && response.headers.get('content-range')?.startsWith(`bytes ${have}-`) === true;
  let received = continues ? have : 0;
  const announced = Number(response.headers.get('content-length') ?? NaN);
  if (!Number.isNaN(announced) && received + announced !== bytes) {
    await response.body.cancel();
    throw new Error(
      `${url} has ${received + announced} bytes instead of ${bytes}: it is not the expected file`,
    );
  }
  const file = await open(part, continues ? 'a' : 'w');
  try {
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      if (received + chunk.length > bytes)
        throw new RangeError(`${url} has more than the expected ${bytes} bytes`);
      await file.writeFile(chunk);
      received += chunk.length;
      onProgress?.({ received, total: bytes });
    }
    await file.sync();
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof RangeError) throw error;
    throw lost(url, received, bytes, error);
  } finally {
    await file.close();
  }
  if (received < bytes) throw lost(url, received, bytes);
  return continues;
}

function lost(url: string, received: number, bytes: number, cause?: unknown): Error {
  const why = cause === undefined ? 'the server closed the connection' : reasonOf(cause);
  return new Error(
    `${url}: connection lost after ${received} of ${bytes} bytes (${why}); call again to go on from there`,
    { cause },
  );
}

function reasonOf(error: unknown): string {
  const { message, cause } = error as Error & { cause?: Error & { code?: string } };
  return cause?.code ?? (cause?.message || message);
}

const sizeOf = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
