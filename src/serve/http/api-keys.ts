/**
 * Keys of the API: where they come from, and how one is compared.
 * @module
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';

/** The environment variable that holds keys, separated by commas. */
export const API_KEYS_VARIABLE = 'SWITCHYARD_API_KEYS';

/** Characters that a key must have. */
const SHORTEST = 16;

/** Keys, any of which opens the server. They are kept as hashes, which is also how they are compared. */
export class ApiKeys {
  private readonly hashes: readonly Buffer[];

  /** @throws RangeError if a key is too short to be secret, or has characters that no header can carry. */
  constructor(keys: readonly string[]) {
    for (const [index, key] of keys.entries()) {
      if (key.length < SHORTEST)
        throw new RangeError(
          `API key ${index + 1} has ${key.length} characters: at least ${SHORTEST} are needed`,
        );
      if (!/^[\x21-\x7e]+$/.test(key))
        throw new RangeError(`API key ${index + 1} may only have visible ASCII characters, without spaces`);
    }
    this.hashes = keys.map(hash);
  }

  /** How many there are; with none, everybody may enter. */
  get size(): number {
    return this.hashes.length;
  }

  /**
   * Whether an `Authorization` header carries one of the keys. The time it takes does not depend on how much of a key
   * was right: hashes of equal length are compared, all of them.
   */
  admit(authorization: string | null | undefined): boolean {
    if (this.size === 0) return true;
    const [, key] = /^Bearer ([\x21-\x7e]+)$/i.exec(authorization ?? '') ?? [];
    if (key === undefined) return false;
    const given = hash(key);
    return this.hashes.map((known) => timingSafeEqual(known, given)).includes(true);
  }
}

/**
 * Keys from a file, one a line (empty lines and lines that begin with `#` do not count), and from the environment variable
 * {@link API_KEYS_VARIABLE}. Never from the command line, which every user of a machine can read.
 * @throws Error if the file cannot be read or has no key.
 */
export function readApiKeys(file?: string, environment: NodeJS.ProcessEnv = process.env): readonly string[] {
  const given = (environment[API_KEYS_VARIABLE] ?? '').split(',').map((key) => key.trim());
  const keys = given.filter((key) => key !== '');
  if (file === undefined) return keys;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(`API keys ${file}: ${(error as NodeJS.ErrnoException).code ?? String(error)}`, {
      cause: error,
    });
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const read = lines.filter((line) => line !== '' && !line.startsWith('#'));
  if (read.length === 0) throw new Error(`API keys ${file}: there is no key in it`);
  return [...keys, ...read];
}

function hash(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
