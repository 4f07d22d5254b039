/**
 * Models given as run folders.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The folder of a model: that of its finished model, where a run is given. */
export function modelFolderOf(path: string): string {
  if (!existsSync(join(path, 'recipe.json'))) return path;
  const folder = join(path, 'model');
  if (existsSync(join(folder, 'model.safetensors'))) return folder;
  throw new Error(`${path}: the run has no finished model yet; go on with it, or give a model folder`);
}
