/**
 * How much an engine does at once.
 * @module
 */

/** See the module. */
export interface EngineLimits {
  /** Texts that are written at once. */
  readonly slots: number;
  /** Requests that wait for a place. */
  readonly queueLimit: number;
  /** Of a request that names no limit, and most that one may name. */
  readonly timeLimitMilliseconds: number;
  /** Tokens of prompts that are read between two tokens of the texts that are being written, roughly. */
  readonly readTokens: number;
  /** Bytes for keys and values of all texts. */
  readonly cacheBytes: number;
}

/** Limits where none are given. */
export const defaultLimits: EngineLimits = {
  slots: 16,
  queueLimit: 256,
  timeLimitMilliseconds: 600_000,
  readTokens: 256,
  cacheBytes: 2 ** 30,
};
