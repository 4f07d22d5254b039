/**
 * Folders that appear whole or not at all.
 * @module
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncFolder, temporaryName } from './atomic-file.js';
import { explain, systemCode } from './system-error.js';

/** Thrown when a folder cannot be made; the message is one line that names it. */
export class FolderError extends Error {
  override readonly name = 'FolderError';
}

/**
 * Lets `write` fill a new folder beside `path`, then renames it to `path`. On failure nothing stays under either name;
 * a killed process leaves at worst a folder called `<path>.tmp-…`. Files must be synced by whoever writes them.
 *
 * @param write gets the path of the temporary folder.
 * @returns what `write` returns.
 * @throws FolderError before `write` is called, if `path` is a file or a folder that is not empty; nothing is ever
 *   overwritten.
 */
export async function createFolder<Result>(
  path: string,
  write: (folder: string) => Promise<Result>,
): Promise<Result> {
  await checkFree(path);
  const temporary = temporaryName(path.replace(/[\\/]+$/, ''));
  try {
    await mkdir(temporary, { recursive: true });
    const result = await write(temporary);
    await syncFolder(temporary);
    // An empty folder gives way; one that was filled meanwhile does not.
    await rename(temporary, path);
    await syncFolder(dirname(path));
    return result;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    if (systemCode(error) === undefined) throw error;
    throw new FolderError(`${path}: cannot write: ${explain(error)}; nothing was left behind`, {
      cause: error,
    });
  }
}

async function checkFree(path: string): Promise<void> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    if (systemCode(error) === 'ENOTDIR')
      throw new FolderError(`${path}: is a file; name a folder that does not exist yet`);
    throw new FolderError(`${path}: cannot write: ${explain(error)}`, { cause: error });
  }
  if (names.length > 0)
    throw new FolderError(`${path}: the folder is not empty; name one that does not exist yet, or remove it`);
}
