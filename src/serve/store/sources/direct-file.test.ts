import { existsSync } from 'node:fs';
import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BLOCK, SlotMemory } from '../slot-memory.js';
import { DirectFile } from './direct-file.js';

/** Places that are files of different kinds where they exist: a disk, and memory that looks like one. */
const places = [tmpdir(), '/dev/shm'].filter((path) => existsSync(path));
const folders: string[] = [];
beforeAll(async () => {
  for (const place of places) folders.push(await mkdtemp(join(place, 'direct-file-')));
});
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});

const bytesOf = (memory: SlotMemory): Uint8Array<ArrayBuffer> => {
  const { buffer, byteOffset, byteLength } = memory.slots[0].data;
  return new Uint8Array(buffer, byteOffset, byteLength);
};
const scratch = (): Uint8Array<ArrayBuffer> => bytesOf(new SlotMemory(1, BLOCK));

describe.each(places.map((place, i) => [place, i] as const))('in %s', (_, i) => {
  const content = Uint8Array.from({ length: 3 * BLOCK + 100 }, (__, at) => at % 251);

  test.each([true, false])('reads what is there, direct %s', async (direct) => {
    const path = join(folders[i], `file ${direct}`);
    await writeFile(path, content);
    const file = await DirectFile.open(path, direct ? scratch() : undefined);
    if (!direct) expect(file.isDirect).toBe(false);
    const target = bytesOf(new SlotMemory(1, 2 * BLOCK));
    await file.read(target, BLOCK, 2 * BLOCK);
    expect(target).toEqual(content.slice(BLOCK, 3 * BLOCK));
    // The file ends within the last block.
    await file.read(target, 2 * BLOCK, BLOCK + 100);
    expect(target.slice(0, BLOCK + 100)).toEqual(content.slice(2 * BLOCK));
    await expect(file.read(target, 2 * BLOCK, BLOCK + 101)).rejects.toThrow(/it was cut short/);
    await truncate(path, BLOCK);
    await expect(file.read(target, 0, BLOCK)).rejects.toThrow('was changed while it was open');
    await file.close();
  });
});

test('a file that is not there is told by name', async () => {
  const path = join(folders[0], 'missing');
  await expect(DirectFile.open(path, scratch())).rejects.toThrow(path);
  await expect(DirectFile.open(path, undefined)).rejects.toThrow(path);
});
