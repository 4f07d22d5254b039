/**
 * The HTTP server.
 * @module
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { getRequestListener } from '@hono/node-server';
import type { EngineClient } from '../engine-client.js';
import { ApiError, invalid } from './api-error.js';
import { createApp } from './app.js';
import { HttpMetrics } from './http-metrics.js';
import { checkHttpSettings, defaultHttpSettings, type HttpSettings } from './settings.js';

/** Requests on one connection: then the client opens another, so that none holds a worker of a balancer for ever. */
const REQUESTS_PER_CONNECTION = 10_000;

/** How often connections are looked at whose requests do not come. */
const CHECK_MILLISECONDS = 1000;

/** How long answers may take to reach their readers once the engine has stopped. */
const FLUSH_MILLISECONDS = 2000;

/**
 * Serves a model by OpenAI's API, to this machine alone unless told otherwise.
 *
 * @example
 * const server = await HttpServer.start(client, { port: 8080 });
 * console.log(server.url);
 * process.once('SIGTERM', () => void server.stop());
 */
export class HttpServer {
  private readonly closing = new AbortController();
  private readonly metrics = new HttpMetrics();
  private isDraining = false;
  private server!: Server;

  private constructor(
    private readonly client: EngineClient,
    private readonly settings: HttpSettings,
  ) {}

  /**
   * Listens. The engine may still be starting: `/ready` tells when it is.
   * @throws Error if the settings are unsafe, or the address cannot be listened on.
   */
  static async start(client: EngineClient, settings: Partial<HttpSettings> = {}): Promise<HttpServer> {
    const complete = { ...defaultHttpSettings, ...settings };
    checkHttpSettings(complete);
    const server = new HttpServer(client, complete);
    await server.listen();
    return server;
  }

  /** Where it is, such as `http://127.0.0.1:8080`. */
  get url(): string {
    const { address, family, port } = this.server.address() as AddressInfo;
    return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
  }

  /** Whether new requests are refused because it is about to end. */
  get draining(): boolean {
    return this.isDraining;
  }

  /** Requests that are being answered. */
  get activeRequests(): number {
    return this.metrics.active;
  }

  /**
   * Ends: `/ready` turns false and new requests are refused at once, those in work are finished within the time and otherwise
   * told that they were not. The engine is stopped, then connections are closed.
   */
  async stop({ graceMilliseconds = 30_000 }: { readonly graceMilliseconds?: number } = {}): Promise<void> {
    this.isDraining = true;
    this.closing.abort(new Error('the server is about to end'));
    await this.client.stop({ graceMilliseconds });
    const latest = performance.now() + FLUSH_MILLISECONDS;
    while (this.metrics.active > 0 && performance.now() < latest)
      await new Promise((resolve) => setTimeout(resolve, 10));
    await this.close();
  }

  /** Closes the server alone; the engine goes on. */
  async close(): Promise<void> {
    this.isDraining = true;
    this.closing.abort(new Error('the server is about to end'));
    const closed = new Promise<void>((resolve) => void this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }

  private async listen(): Promise<void> {
    const { settings, client, metrics, closing } = this;
    const isDraining = (): boolean => this.isDraining;
    const app = createApp({
      ...{ client, settings, metrics },
      closing: closing.signal,
      get draining() {
        return isDraining();
      },
    });
    const listener = getRequestListener(app.fetch, {
      overrideGlobalObjects: false,
      // Only what is no URL at all comes here: everything else is answered by the application.
      errorHandler: () => invalid(undefined, 'the request has no valid URL', 'invalid_url').response(),
    });
    this.server = createServer(
      {
        headersTimeout: settings.headersMilliseconds,
        requestTimeout: settings.bodyMilliseconds,
        keepAliveTimeout: settings.keepAliveMilliseconds,
        connectionsCheckingInterval: Math.min(CHECK_MILLISECONDS, settings.headersMilliseconds),
        maxHeaderSize: 16_384,
      },
      (request, response) => void listener(request, response),
    );
    // A connection on which nothing moves although its request has come and should have been answered long ago.
    this.server.timeout = settings.requestMilliseconds + settings.stallMilliseconds;
    this.server.maxRequestsPerSocket = REQUESTS_PER_CONNECTION;
    this.server.maxConnections = settings.maxConnections;
    this.server.on('clientError', refuse);
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(settings.port, settings.host, () => {
        this.server.off('error', reject);
        resolve();
      });
    });
  }
}

/** Answers what is not HTTP, or did not come in time, and closes the connection. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  const isAnswered = 'bytesWritten' in socket && Number(socket.bytesWritten) > 0;
  if (!socket.writable || isAnswered || error.code === 'ECONNRESET') return void socket.destroy();
  const [line, told] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', new ApiError(408, 'timeout_error', 'the request did not come in time')]
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', invalid(undefined, 'the header is too long')]
        : ['400 Bad Request', invalid(undefined, 'this is not HTTP/1.1')];
  const body = JSON.stringify(told.body);
  const head = `HTTP/1.1 ${line}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}`;
  socket.end(`${head}\r\n\r\n${body}`);
}
