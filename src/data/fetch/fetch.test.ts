import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { datasetPath, datasets, fetchDatasetByName, findDataset } from './datasets.js';
import { fetchDataset, type FetchDatasetOptions } from './fetch-dataset.js';

const content = Buffer.from(Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 251));
const sha256 = createHash('sha256').update(content).digest('hex');
let folder: string;
let server: Server;
let handler: RequestListener;
let ranges: (string | undefined)[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'switchyard-fetch-'));
  ranges = [];
  server = createServer((request, response) => {
    ranges.push(request.headers.range);
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true });
});

const url = (): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/set.txt`;
const get = (more: Partial<FetchDatasetOptions> = {}): Promise<void> =>
  fetchDataset({ url: url(), bytes: content.length, sha256, target: join(folder, 'deep/set.txt'), ...more });
const target = (): string => join(folder, 'deep/set.txt');
const part = (): string => `${target()}.part`;
const partSize = (): number => statSync(part()).size;

/** A server that knows ranges. */
const withRanges: RequestListener = (request, response) => {
  const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? NaN);
  if (Number.isNaN(from)) return void response.end(content);
  response.writeHead(206, {
    'content-range': `bytes ${from}-${content.length - 1}/${content.length}`,
    'content-length': content.length - from,
  });
  response.end(content.subarray(from));
};
/** A server that dies after `count` bytes. */
const dyingAfter =
  (count: number): RequestListener =>
  (_, response) => {
    response.writeHead(200, { 'content-length': content.length });
    response.write(content.subarray(0, count), () => setTimeout(() => response.destroy(), 30));
  };

describe('fetchDataset', () => {
  it('downloads, tells the progress and does not download again', async () => {
    handler = withRanges;
    const seen: number[] = [];
    await get({ onProgress: ({ received, total }) => seen.push(received / total) });
    expect(readFileSync(target()).equals(content)).toBe(true);
    expect(existsSync(part())).toBe(false);
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    await get();
    expect(ranges).toEqual([undefined]);
  });
  it('keeps what came before the connection was lost, and goes on from there', async () => {
    handler = dyingAfter(100_000);
    await expect(get()).rejects.toThrow(/connection lost after 100000 of 300000 bytes \(.+\); call again/);
    expect(partSize()).toBe(100_000);
    expect(existsSync(target())).toBe(false);
    handler = withRanges;
    await get();
    expect(ranges).toEqual([undefined, 'bytes=100000-']);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });
  it('starts from zero where the server ignores ranges', async () => {
    handler = dyingAfter(50_000);
    await expect(get()).rejects.toThrow('connection lost');
    handler = (_, response) => void response.end(content);
    await get();
    expect(ranges).toEqual([undefined, 'bytes=50000-']);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });
  it('starts from zero where the part is of another version, too long, or refused', async () => {
    handler = withRanges;
    for (const old of [
      Buffer.alloc(1000, 1),
      Buffer.alloc(content.length, 2),
      Buffer.alloc(content.length + 5, 3),
    ]) {
      rmSync(target(), { force: true });
      await get().then(() => rmSync(target()));
      writeFileSync(part(), old);
      await get();
      expect(readFileSync(target()).equals(content)).toBe(true);
    }
    rmSync(target());
    writeFileSync(part(), Buffer.alloc(7));
    handler = (request, response) => {
      if (request.headers.range) response.writeHead(416).end();
      else response.end(content);
    };
    await get();
    expect(readFileSync(target()).equals(content)).toBe(true);
  });
  it('finishes a part that was complete', async () => {
    handler = withRanges;
    await get();
    rmSync(target());
    writeFileSync(part(), content);
    ranges = [];
    await get();
    expect(ranges).toEqual([]);
    expect(readFileSync(target()).equals(content)).toBe(true);
  });
  it('replaces a target of other content', async () => {
    handler = withRanges;
    await get();
    writeFileSync(target(), Buffer.alloc(content.length));
    await get();
    expect(readFileSync(target()).equals(content)).toBe(true);
  });
  it.each<[string, RequestListener, RegExp]>([
    [
      '404',
      (_, response) => void response.writeHead(404).end(),
      /set\.txt: the server answered 404 Not Found$/,
    ],
    ['416 without a range', (_, response) => void response.writeHead(416).end(), /answered 416/],
    [
      'a wrong size',
      (_, response) => void response.end('short'),
      /has 5 bytes instead of 300000: it is not the expected file$/,
    ],
    [
      'more bytes than announced',
      (_, response) => {
        response.write(content);
        response.end('more');
      },
      /has more than the expected 300000 bytes$/,
    ],
    [
      'fewer bytes, unannounced',
      (_, response) => {
        response.write(content.subarray(5));
        response.end();
      },
      /connection lost after 299995 of 300000 bytes/,
    ],
    [
      'a wrong hash',
      (_, response) => void response.end(Buffer.alloc(content.length)),
      /other content than expected: sha256 [0-9a-f]{64} instead of/,
    ],
  ])('refuses %s and gives the file no name', async (_, listener, message) => {
    handler = listener;
    await expect(get()).rejects.toThrow(message);
    expect(existsSync(target())).toBe(false);
  });
  it('says that a server cannot be reached', async () => {
    const dead = url();
    await new Promise((resolve) => server.close(resolve));
    await expect(fetchDataset({ url: dead, bytes: 1, sha256, target: target() })).rejects.toThrow(
      /cannot reach http.*: ECONNREFUSED/,
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  it('stops when told to, keeping what has come', async () => {
    handler = (_, response) => {
      response.writeHead(200, { 'content-length': content.length });
      response.write(content.subarray(0, 80_000));
    };
    const controller = new AbortController();
    const stopped = get({
      signal: controller.signal,
      onProgress: ({ received }) => {
        if (received === 80_000) controller.abort(new Error('told to stop'));
      },
    });
    await expect(stopped).rejects.toThrow('told to stop');
    expect(partSize()).toBe(80_000);
  });
});

describe('known data sets', () => {
  it('have whole entries', () => {
    for (const set of Object.values(datasets)) {
      expect(new URL(set.url).protocol).toBe('https:');
      expect(set.sha256).toMatch(/^[0-9a-f]{64}$/);
      expect(set.bytes).toBeGreaterThan(0);
    }
  });
  it('are found by name, or the command that fetches them is told', async () => {
    expect(() => findDataset('tinyshakespeare', folder)).toThrow(
      /does not exist\): run `switchyard data fetch tinyshakespeare`/,
    );
    const path = datasetPath('tinyshakespeare', folder);
    expect(path).toBe(join(folder, 'tinyshakespeare', 'input.txt'));
    await expect(fetchDatasetByName('tiny', { folder })).rejects.toThrow(
      'there is no data set "tiny"; known are: tinyshakespeare',
    );
  });
});
