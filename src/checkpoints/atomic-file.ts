/**
 * Files that appear whole or not at all, and survive a power cut once they have appeared.
 * @module
 */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';

/** A name beside `path` that no other process or call uses: `<path>.tmp-<pid>-<random>`. */
export function temporaryName(path: string): string {
  return `${path}.tmp-${process.pid}-${randomBytes(4).toString('hex')}`;
}

/**
 * Writes a file under a temporary name beside `path`, syncs it, renames it onto `path` and syncs the folder. A reader
 * that has the old file open keeps its content. On failure the temporary file is removed and the old one is untouched.
 *
 * @returns what `write` returns.
 */
export async function replaceFile<Result>(
  path: string,
  write: (handle: FileHandle) => Promise<Result>,
): Promise<Result> {
  const temporary = temporaryName(path);
  try {
    const result = await createSynced(temporary, write);
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return result;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Creates a file that must not exist, lets `write` fill it, and syncs it. */
export async function createSynced<Result>(
  path: string,
  write: (handle: FileHandle) => Promise<Result>,
): Promise<Result> {
  const handle = await open(path, 'wx');
  try {
    const result = await write(handle);
    await handle.sync();
    return result;
  } finally {
    await handle.close();
  }
}

/** Makes created, renamed and removed names of a folder durable. Windows has no such call and needs none. */
export async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
