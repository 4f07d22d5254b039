/**
 * Finds the tensors that a path stands for.
 * @module
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SafetensorsError } from '../safetensors/errors.js';
import { SafetensorsFile } from '../safetensors/index.js';
import { explain, systemCode } from '../system-error.js';
import { INDEX_FILE } from './shard-index.js';
import { ShardedTensors } from './sharded-tensors.js';
import type { TensorSource } from './source.js';

/** Name of the weights of a folder that has one file of them. */
export const WEIGHTS_FILE = 'model.safetensors';

/**
 * Opens the tensors of a `.safetensors` file, or of a folder with `model.safetensors` or with
 * `model.safetensors.index.json` and its shards.
 *
 * @example
 * ```ts
 * const source = await openTensors('mixtral/');
 * try {
 *   for (const { name, dtype, shape } of source.tensors.values()) console.log(name, dtype, shape);
 *   const firstExpert = await readFloats(source, 'experts', { rows: [0, 1] });
 * } finally {
 *   await source.close();
 * }
 * ```
 * @throws SafetensorsError naming the file that is missing, damaged or contradicts another.
 */
export async function openTensors(path: string): Promise<TensorSource> {
  if (!(await isFolder(path))) return SafetensorsFile.open(path);
  const single = join(path, WEIGHTS_FILE);
  const [hasSingle, hasIndex] = await Promise.all([isThere(single), isThere(join(path, INDEX_FILE))]);
  if (hasSingle && hasIndex)
    throw new SafetensorsError(
      'index',
      path,
      `holds both ${WEIGHTS_FILE} and ${INDEX_FILE}, which may differ; remove one of them`,
    );
  if (hasIndex) return ShardedTensors.open(path);
  if (hasSingle) return SafetensorsFile.open(single);
  for (const pickle of pickles) {
    if (await isThere(join(path, pickle)))
      throw new SafetensorsError('open', path, explainPickle(pickle, path));
  }
  throw new SafetensorsError('open', path, `holds neither ${WEIGHTS_FILE} nor ${INDEX_FILE}`);
}

/** What PyTorch saves: programs, which make weights when they are run, and whatever else they please. */
const pickles = ['pytorch_model.bin', 'pytorch_model.bin.index.json'];

function explainPickle(name: string, path: string): string {
  const load = `getattr(t, json.load(open('${path}/config.json'))['architectures'][0]).from_pretrained('${path}')`;
  return (
    `holds ${name}, a PyTorch pickle, which could run any code; convert it to safetensors with Python: ` +
    `python -c "import json, transformers as t; ${load}.save_pretrained('${path}-safetensors')"`
  );
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    throw new SafetensorsError('open', path, `cannot open: ${explain(error)}`, { cause: error });
  }
}

/** Whether a path leads to anything. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw new SafetensorsError('open', path, `cannot open: ${explain(error)}`, { cause: error });
  }
}
