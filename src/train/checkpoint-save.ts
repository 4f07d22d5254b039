/**
 * Saving a checkpoint so that it is either whole and durable or not there.
 *
 * All files are written into a temporary folder and synced, the manifest last; then the folder is synced, renamed to
 * its final name, and the parent is synced. A crash leaves at worst a temporary folder, which is never listed.
 * @module
 */
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createSynced,
  encodeJson,
  explain,
  HashingWriter,
  SafetensorsError,
  syncFolder,
  temporaryName,
  writeSafetensors,
  type FileDigest,
  type JsonObject,
  type NamedTensor,
} from '../checkpoints/index.js';
import { CheckpointError } from './checkpoint-error.js';
import { encodeManifest, MANIFEST, type CheckpointFile } from './checkpoint-manifest.js';
import { inFlight, stepName } from './checkpoint-names.js';

/** What a checkpoint holds. Everything must stay as it is until the save has resolved. */
export interface CheckpointContents {
  /** Weights. */
  readonly model: readonly NamedTensor[];
  /** Moments and other arrays of the optimiser. */
  readonly optimizer: readonly NamedTensor[];
  /** All else that a resumed run needs: step counts, random state, the position in the data. */
  readonly state: JsonObject;
}

/**
 * Stages of a save in their order. `data` to `rename` make the checkpoint; `latest` moves the pointer, `retention`
 * removes old ones.
 */
export const saveStages = ['data', 'manifest', 'dirSync', 'rename', 'latest', 'retention'] as const;

/** One of {@link saveStages}. */
export type SaveStage = (typeof saveStages)[number];

/** Called before every stage; an error it throws fails the save there, as an error of the system would. */
export type StageHook = (stage: SaveStage, checkpoint: string) => void | Promise<void>;

/**
 * Writes `<folder>/step-<step>`.
 *
 * @throws CheckpointError `exists`, or `save` after removing what was written.
 */
export async function saveCheckpoint(
  folder: string,
  step: number,
  contents: CheckpointContents,
  metrics: Readonly<Record<string, number>>,
  onStage: StageHook,
): Promise<void> {
  const name = stepName(step);
  const path = join(folder, name);
  if (await exists(path))
    throw new CheckpointError(
      'exists',
      `checkpoint ${name} exists in ${folder}; a checkpoint is never overwritten`,
    );
  const temporary = temporaryName(path);
  inFlight.add(temporary);
  try {
    await onStage('data', name);
    await mkdir(temporary, { recursive: true });
    const files = await writeFiles(temporary, contents);
    await onStage('manifest', name);
    await writeText(join(temporary, MANIFEST), encodeManifest({ step, metrics, files }));
    await onStage('dirSync', name);
    await syncFolder(temporary);
    await onStage('rename', name);
    await rename(temporary, path);
  } catch (error) {
    // What cannot be removed now is removed by the next save.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    const cause = error instanceof SafetensorsError && error.code === 'write' ? error.cause : error;
    throw new CheckpointError(
      'save',
      `cannot save checkpoint ${name} in ${folder}: ${explain(cause)}; older checkpoints are untouched`,
      undefined,
      { cause: error },
    );
  } finally {
    inFlight.delete(temporary);
  }
  try {
    await syncFolder(folder);
  } catch (error) {
    const reason = `checkpoint ${name} is saved in ${folder}, but may not survive a power cut: ${explain(error)}`;
    throw new CheckpointError('finish', reason, undefined, { cause: error });
  }
}

async function writeFiles(
  folder: string,
  { model, optimizer, state }: CheckpointContents,
): Promise<Record<CheckpointFile, FileDigest>> {
  const tensors = (file: CheckpointFile, of: readonly NamedTensor[]): Promise<FileDigest> =>
    createSynced(join(folder, file), (handle) => writeSafetensors(handle, of, { file }));
  return {
    'model.safetensors': await tensors('model.safetensors', model),
    'optimizer.safetensors': await tensors('optimizer.safetensors', optimizer),
    'state.json': await writeText(join(folder, 'state.json'), `${encodeJson(state, 2)}\n`),
  };
}

function writeText(path: string, text: string): Promise<FileDigest> {
  return createSynced(path, async (handle) => {
    const writer = new HashingWriter(handle);
    await writer.write(Buffer.from(text));
    return writer.finish();
  });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
