/**
 * A server over the fake engine, and clients that no library would let one write.
 * @module
 */
import { connect, type Socket } from 'node:net';
import { afterEach } from 'vitest';
import { HttpServer, type HttpSettings } from '../../src/serve/index.js';
import { FakeEngine, type FakeOptions } from './fake-engine.js';

/** A key that is long enough. */
export const KEY = 'sk-test-0123456789abcdef';

const servers: HttpServer[] = [];
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

/** What {@link startServer} gives. */
export interface Started {
  readonly server: HttpServer;
  readonly engine: FakeEngine;
  readonly url: string;
  readonly log: readonly string[];
}

/** Starts a server on a free port; it is closed after the test. */
export async function startServer(
  settings: Partial<HttpSettings> = {},
  engine: FakeOptions = {},
): Promise<Started> {
  const fake = new FakeEngine(engine);
  const log: string[] = [];
  const server = await HttpServer.start(fake, { port: 0, log: (line) => void log.push(line), ...settings });
  servers.push(server);
  return { server, engine: fake, url: server.url, log };
}

/** Sends JSON. */
export function post(url: string, body: unknown, init: RequestInit = {}): Promise<Response> {
  return fetch(url, {
    method: 'POST',
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
    headers: { 'content-type': 'application/json', ...(init.headers as Record<string, string>) },
  });
}

/** The error of an answer. */
export async function errorOf(
  response: Response,
): Promise<{ message: string; type: string; param: string | null; code: string | null }> {
  return ((await response.json()) as { error: Awaited<ReturnType<typeof errorOf>> }).error;
}

/** A connection on which anything can be said. */
export async function dial(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname.replace(/^\[|\]$/g, ''));
  sockets.push(socket);
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => void socket.once('connect', resolve));
  return socket;
}

/** Says something and reads until the other side closes, or for some time. */
export async function exchange(url: string, text: string, milliseconds = 5000): Promise<string> {
  const socket = await dial(url);
  socket.write(text);
  return heard(socket, milliseconds);
}

/** Everything that comes until the other side closes, or for some time. */
export function heard(socket: Socket, milliseconds: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const timer = setTimeout(() => resolve(text), milliseconds);
    socket.on('data', (part: Buffer) => (text += part.toString('latin1')));
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(text);
    });
  });
}

/** Data of the events of a stream, in their order; checks their framing. */
export function eventsOf(text: string): string[] {
  if (!text.endsWith('\n\n'))
    throw new Error(`the stream ends within an event: ${JSON.stringify(text.slice(-80))}`);
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((event) => {
      if (!/^(event: \w+\n)?data: [^\n]+$/.test(event)) throw new Error(`no event: ${JSON.stringify(event)}`);
      return event.slice(event.indexOf('data: ') + 6);
    });
}

/** Waits until something is so. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  milliseconds = 10_000,
): Promise<void> {
  const latest = performance.now() + milliseconds;
  while (!(await condition())) {
    if (performance.now() > latest) throw new Error(`not within ${milliseconds} ms: ${String(condition)}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
