/**
 * Settings of the HTTP server.
 * @module
 */
import { hostname } from 'node:os';
import { isIP } from 'node:net';

/** What one request may ask for at most. */
export interface RequestLimits {
  /** Texts for one prompt. */
  readonly n: number;
  /** Prompts, or texts to classify or embed. */
  readonly inputs: number;
  /** Tokens of all texts to classify or embed. */
  readonly inputTokens: number;
  /** Texts of a request in all: prompts times `n`. */
  readonly texts: number;
  /** Tokens to add to a text. */
  readonly maxTokens: number;
  /** Messages of a conversation. */
  readonly messages: number;
  /** Stop strings. */
  readonly stop: number;
  /** Characters of a stop string. */
  readonly stopLength: number;
  /** Entries of `logit_bias`. */
  readonly logitBias: number;
  /** Most probable tokens that are told with each token. */
  readonly topLogProbabilities: number;
  /** Expert numbers of a routing trace: tokens × layers × topK over all texts. */
  readonly routedExperts: number;
  /** Log-probabilities: of each token and of the most probable ones that are told with it, over all texts. */
  readonly logProbabilities: number;
}

/** Settings of {@link HttpServer}. */
export interface HttpSettings {
  /** Address to listen on. */
  readonly host: string;
  /** 0 takes one that is free. */
  readonly port: number;
  /** Any of these opens the server; all may enter where there is none. */
  readonly apiKeys: readonly string[];
  /** Listen beyond this machine without keys. */
  readonly allowPublic: boolean;
  /** Origins whose pages may read answers, such as `https://example.org`; `*` for all. */
  readonly allowedOrigins: readonly string[];
  /** Names by which the server may be called, besides `localhost`, this machine's name and addresses; `*` for any. */
  readonly allowedHosts: readonly string[];
  /** Whether requests may ask for the experts of tokens. */
  readonly routedExperts: boolean;
  /** Whether `/` shows the live page. */
  readonly livePage: boolean;
  /** Bytes of a body. */
  readonly bodyLimit: number;
  readonly limits: RequestLimits;
  /** Until the header of a request has come. */
  readonly headersMilliseconds: number;
  /** Until all of a request has come. */
  readonly bodyMilliseconds: number;
  /** How long a connection may be idle between two requests. */
  readonly keepAliveMilliseconds: number;
  /** How long a reader of a stream may take nothing. */
  readonly stallMilliseconds: number;
  /** Until a request must be answered. */
  readonly requestMilliseconds: number;
  /** Between two events of the live page. */
  readonly liveMilliseconds: number;
  readonly maxConnections: number;
  /** Pages that may be followed live at once. */
  readonly maxLiveReaders: number;
  /** Takes the lines of the access log. */
  readonly log: (line: string) => void;
}

/** What one request may ask for where nothing else is said. */
export const defaultRequestLimits: RequestLimits = {
  n: 16,
  inputs: 128,
  // As in OpenAI's API.
  inputTokens: 300_000,
  texts: 128,
  maxTokens: 32_768,
  messages: 1024,
  stop: 4,
  stopLength: 256,
  logitBias: 300,
  topLogProbabilities: 20,
  routedExperts: 4_000_000,
  logProbabilities: 1_000_000,
};

/** Settings where nothing else is said: this machine alone, no other origin. */
export const defaultHttpSettings: HttpSettings = {
  host: '127.0.0.1',
  port: 8080,
  apiKeys: [],
  allowPublic: false,
  allowedOrigins: [],
  allowedHosts: [],
  routedExperts: true,
  livePage: true,
  bodyLimit: 2 ** 20,
  limits: defaultRequestLimits,
  headersMilliseconds: 10_000,
  bodyMilliseconds: 30_000,
  keepAliveMilliseconds: 10_000,
  stallMilliseconds: 30_000,
  requestMilliseconds: 600_000,
  liveMilliseconds: 500,
  maxConnections: 1024,
  maxLiveReaders: 16,
  log: () => undefined,
};

/**
 * Refuses what would be unsafe.
 * @throws Error if the server could be reached from other machines without a key, or an origin is not one.
 */
export function checkHttpSettings(settings: HttpSettings): void {
  const { host, apiKeys, allowPublic, allowedOrigins } = settings;
  if (!isLoopback(host) && apiKeys.length === 0 && !allowPublic)
    throw new Error(
      `${host} can be reached from other machines, and there is no API key: give keys, listen on 127.0.0.1, or allow it explicitly`,
    );
  for (const origin of allowedOrigins) {
    if (origin !== '*' && !isOrigin(origin))
      throw new Error(
        `'${origin}' is not an origin such as https://example.org: no path, no slash at its end`,
      );
  }
}

/** Whether only this machine can reach an address. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

/**
 * Whether a `Host` header may name this server. Addresses always may: a page that lets its own name point here (DNS
 * rebinding) sends its name.
 */
export function isHostAllowed(header: string | null | undefined, allowed: readonly string[]): boolean {
  if (header === null || header === undefined) return false;
  const name = /^(\[[0-9a-f:.]+\]|[^:[\]]+)(:\d{1,5})?$/i.exec(header)?.[1].toLowerCase();
  if (name === undefined) return false;
  if (allowed.includes('*') || isIP(name.replace(/^\[|\]$/g, '')) !== 0) return true;
  return ['localhost', hostname().toLowerCase(), ...allowed.map((host) => host.toLowerCase())].includes(name);
}

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}
