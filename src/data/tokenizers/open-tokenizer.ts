import type { TokenizerConfig } from '../schema.js';
import { ByteTokenizer } from './byte-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';

/** Makes the tokenizer that a recipe asks for. */
export async function openTokenizer(config: TokenizerConfig): Promise<Tokenizer> {
  if (config.kind === 'byte') return new ByteTokenizer(config);
  throw new Error(`tokenizer kind "${config.kind}" is not supported yet`);
}
