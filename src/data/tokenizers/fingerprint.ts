import { createHash } from 'node:crypto';
import type { TokenizerFile } from './tokenizer.js';

/** Hash of a `tokenizer.json`, the fingerprint of its tokenizer. */
export function fingerprintOf(file: TokenizerFile): string {
  return createHash('sha256').update(JSON.stringify(file)).digest('hex');
}
