/**
 * Loader test 24: we accept exactly what the reference implementation of safetensors accepts, less what we refuse on
 * purpose.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SafetensorsError, SafetensorsFile } from '../../src/checkpoints/index.js';
import { bytesOfFile, readCorpus } from './corpus.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'switchyard-reference-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Files that only the reference accepts, by our reason; the docstring of `header.ts` says why. */
const stricter: readonly (readonly [reason: RegExp, files: number])[] = [
  [/ has the key ".*" twice$/, 4],
  [/ has the unknown field /, 4],
  [/: a size must be a whole number from 0 to 2\^53 - 1 /, 1],
  [/ has more than 64 sizes$/, 2],
  [/: __metadata__ must be an object /, 2],
];

it('every file of the corpus meets the same fate here and there, or a stricter one that is listed', async () => {
  const path = join(folder, 'f');
  const counts = { accepted: 0, refused: 0 };
  const found: Record<string, number> = {};
  for (const file of readCorpus()) {
    const shown = file.header.toString().slice(0, 200);
    await writeFile(path, bytesOfFile(file));
    const opened = await SafetensorsFile.open(path).catch((error: unknown) => error);
    if (opened instanceof SafetensorsFile) {
      expect(file.refused, shown).toBeUndefined();
      const { metadata, tensors } = file.accepted!;
      expect(Object.fromEntries(opened.metadata), shown).toEqual(metadata);
      const seen = [...opened.tensors.values()].map(({ name, dtype, shape }) => [name, [dtype, ...shape]]);
      expect(Object.fromEntries(seen), shown).toEqual(tensors);
      for (const name of opened.tensors.keys()) await opened.read(name);
      await opened.close();
      counts.accepted++;
      continue;
    }
    expect(opened, shown).toBeInstanceOf(SafetensorsError);
    const { message } = opened as SafetensorsError;
    if (!file.refused) {
      const reason = stricter.find(([pattern]) => pattern.test(message));
      const key = reason ? String(reason[0]) : `${shown} => ${message}`;
      found[key] = (found[key] ?? 0) + 1;
    } else counts.refused++;
  }
  expect(found).toEqual(Object.fromEntries(stricter.map(([reason, files]) => [String(reason), files])));
  expect(counts.accepted).toBeGreaterThan(50);
  expect(counts.refused).toBeGreaterThan(400);
});
