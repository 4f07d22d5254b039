/**
 * All parameters of a checkpoint at once.
 * @module
 */
import type { TensorMapping } from '../hugging-face/architecture.js';
import { ModelFolderError } from '../hugging-face/errors.js';
import { elementsOf } from '../safetensors/dtypes.js';
import { quote } from '../safetensors/errors.js';
import { readFloats, type TensorSource } from '../tensors/index.js';
import type { Checkpoint } from './checkpoint.js';

/** Elements that are compared at a time. */
const PIECE = 1 << 20;

/**
 * Reads parameters into arrays of their sizes.
 * @param into by name; parameters that are not in it are not read.
 * @throws ModelFolderError if a tensor that is stored under two names has other numbers there.
 * @throws SafetensorsError
 */
export async function readParameters(
  checkpoint: Checkpoint,
  into: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  await checkAliases(checkpoint);
  for (const [name, target] of into) await checkpoint.readParameter(name, { into: target });
}

/**
 * Compares tensors with those stored under their other names, piece by piece: which of two is meant could not be known.
 * @throws ModelFolderError naming two that differ.
 */
export async function checkAliases({
  source,
  mapping,
}: Pick<Checkpoint, 'source' | 'mapping'>): Promise<void> {
  for (const entry of mapping) {
    for (const alias of entry.aliases ?? []) {
      if (!(await areEqual(source, entry, alias)))
        throw new ModelFolderError(
          `${source.location}: ${quote(entry.tensor)} and ${quote(alias)} are one in this model, but their numbers differ`,
        );
    }
  }
}

async function areEqual(
  source: TensorSource,
  { tensor, shape }: TensorMapping,
  alias: string,
): Promise<boolean> {
  const [height = 1, ...rest] = shape;
  const step = Math.max(1, Math.floor(PIECE / elementsOf(rest)));
  for (let row = 0; row < height; row += step) {
    const rows = [row, Math.min(height, row + step)] as const;
    const [one, other] = [
      await readFloats(source, tensor, { rows }),
      await readFloats(source, alias, { rows }),
    ];
    // NaN in both places is no difference.
    if (one.some((value, i) => !Object.is(value, other[i]) && value !== other[i])) return false;
  }
  return true;
}
