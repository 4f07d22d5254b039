/**
 * What became of each layer, kept in the compressed folder for reports. Loading does not need it.
 * @module
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { explain, systemCode, type JsonObject } from '../../checkpoints/index.js';
import type { LayerOutcome } from './job.js';
import { CompressionError } from './state.js';

/** Name of the file. */
export const NUMBERS_FILE = 'compression.json';

/** What the file holds. */
export interface CompressionNumbers {
  readonly version: 1;
  readonly method: string;
  readonly options: JsonObject;
  readonly layers: readonly LayerOutcome[];
}

const size = z.object({ parameters: z.number(), bytes: z.number() });
const schema = z.object({
  version: z.literal(1),
  method: z.string(),
  options: z.record(z.string(), z.json()),
  layers: z.array(
    z.object({
      name: z.string(),
      report: z.looseObject({ error: z.number(), energy: z.number() }),
      spectrum: z.array(z.number()).optional(),
      before: size,
      after: size,
    }),
  ),
});

/**
 * Reads the file of a compressed folder; undefined where there is none.
 * @throws CompressionError if it is something else.
 */
export async function readCompressionNumbers(folder: string): Promise<CompressionNumbers | undefined> {
  const file = join(folder, NUMBERS_FILE);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw new CompressionError(`${file}: ${explain(error)}`, { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [{ path, message }] = parsed.error.issues;
  throw new CompressionError(`${file}: ${path.join('.')}: ${message}`);
}
