/**
 * What a `generation_config.json` says about the end of a text.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { ModelFolderError } from './errors.js';

const id = z.int().min(0);
const schema = z.looseObject({ eos_token_id: z.union([id, z.array(id)]).nullish() });

/**
 * Ids that end a text by the `generation_config.json` of a folder: chat models end a turn and a text with tokens of their
 * own. None where there is no such file.
 * @throws ModelFolderError if the file is not what it should be.
 */
export function readStopTokens(folder: string): readonly number[] {
  const file = join(folder, 'generation_config.json');
  if (!existsSync(file)) return [];
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new ModelFolderError(`${file}: not JSON: ${(error as Error).message}`);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new ModelFolderError(
      `${file}: eos_token_id must be an id or a list of ids, each a whole number from 0`,
    );
  }
  const { eos_token_id: given } = parsed.data;
  return given == null ? [] : [given].flat();
}
