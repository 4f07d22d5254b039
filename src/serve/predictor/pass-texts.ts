/**
 * The texts that a pass is about to read, from what it is fed.
 * @module
 */
import type { PassStart } from '../engine/hooks.js';

/** Texts of a pass and where they stand in it. */
export interface PassTexts {
  /** Tokens of each row without padding; empty rows are left out. */
  readonly rows: readonly Int32Array[];
  /** Position of each row's first token among the `tokens` positions of the pass. */
  readonly starts: readonly number[];
  /** Positions of the pass, `batch · time`. */
  readonly tokens: number;
}

/** Names of ids and mask: an encoder's source, or a language model's tokens. */
const feedNames = [
  ['source', 'sourceMask'],
  ['tokens', 'mask'],
] as const;

/**
 * Reads rows of tokens out of the feeds; undefined for a pass that has none, or goes on from a cache and so does not have
 * its texts whole.
 */
export function passTexts({ feeds, shapes }: PassStart): PassTexts | undefined {
  if ('cache.lengths' in feeds) return undefined;
  for (const [name, maskName] of feedNames) {
    const ids = feeds[name] as Int32Array | undefined;
    if (!ids) continue;
    const mask = feeds[maskName] as Uint8Array | undefined;
    const time = shapes[name]?.[1] ?? ids.length;
    const rows: Int32Array[] = [];
    const starts: number[] = [];
    for (let start = 0; start < ids.length; start += time) {
      let length = 0;
      while (length < time && (!mask || mask[start + length])) length++;
      if (length === 0) continue;
      rows.push(ids.slice(start, start + length));
      starts.push(start);
    }
    return { rows, starts, tokens: ids.length };
  }
  return undefined;
}
