/**
 * Loading a checkpoint: every file is opened first, then verified, then compared, then read.
 *
 * Opening all files before the first byte is read keeps them readable even if another process removes the checkpoint
 * meanwhile. Nothing is written into the given tensors before every check has passed.
 * @module
 */
import { open, type FileHandle } from 'node:fs/promises';
import { basename, join } from 'node:path';
import {
  digestFile,
  explain,
  quote,
  SafetensorsFile,
  systemCode,
  type JsonObject,
  type NamedTensor,
} from '../checkpoints/index.js';
import { CheckpointError } from './checkpoint-error.js';
import {
  checkpointFiles,
  MANIFEST,
  parseManifest,
  type CheckpointFile,
  type Manifest,
} from './checkpoint-manifest.js';

/** Where a checkpoint is read into: views by name. */
export interface CheckpointTarget {
  readonly model: readonly NamedTensor[];
  /** Absent when only the weights are wanted. */
  readonly optimizer?: readonly NamedTensor[];
}

/** What a checkpoint held besides tensors. */
export interface LoadedCheckpoint {
  readonly step: number;
  readonly state: JsonObject;
  /** Figures that were saved with it; empty when there were none. */
  readonly metrics: Readonly<Record<string, number>>;
}

const MAX_MANIFEST_BYTES = 1 << 20;

/** Folders that are being read in this process, with the number of readers; retention leaves them alone. */
const readers = new Map<string, number>();

/** Whether this process is reading a checkpoint. */
export function isBeingRead(path: string): boolean {
  return readers.has(path);
}

/**
 * Verifies the checkpoint in a folder and reads it into `target`; without a target it is verified only.
 * @throws CheckpointError `corrupt`, `mismatch` or `read`.
 */
export async function loadCheckpoint(
  path: string,
  step: number,
  target: CheckpointTarget | undefined,
): Promise<LoadedCheckpoint> {
  const handles: FileHandle[] = [];
  readers.set(path, (readers.get(path) ?? 0) + 1);
  try {
    const manifest = await readManifest(path, step, handles);
    const files = await openFiles(path, handles);
    await verify(path, manifest, files);
    const state = await readState(path, files['state.json']);
    if (target) await readTensors(path, files, target);
    return { step, state, metrics: manifest.metrics ?? {} };
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
    const left = readers.get(path)! - 1;
    if (left > 0) readers.set(path, left);
    else readers.delete(path);
  }
}

/**
 * Reads the manifest of a checkpoint alone.
 * @throws CheckpointError
 */
export async function loadManifest(path: string, step: number): Promise<Manifest> {
  const handles: FileHandle[] = [];
  try {
    return await readManifest(path, step, handles);
  } finally {
    await Promise.all(handles.map((handle) => handle.close()));
  }
}

async function readManifest(path: string, step: number, handles: FileHandle[]): Promise<Manifest> {
  const handle = await openFile(path, MANIFEST, handles);
  const manifest = await attempt(path, MANIFEST, async () => {
    const { size } = await handle.stat();
    if (size > MAX_MANIFEST_BYTES) throw new Error(`it has ${size} bytes, which no manifest needs`);
    return parseManifest(await handle.readFile('utf8'));
  });
  if (manifest.step !== step) throw corrupt(path, MANIFEST, `it is of step ${manifest.step}`);
  return manifest;
}

async function openFiles(path: string, handles: FileHandle[]): Promise<Record<CheckpointFile, FileHandle>> {
  return {
    'model.safetensors': await openFile(path, 'model.safetensors', handles),
    'optimizer.safetensors': await openFile(path, 'optimizer.safetensors', handles),
    'state.json': await openFile(path, 'state.json', handles),
  };
}

async function openFile(path: string, name: string, handles: FileHandle[]): Promise<FileHandle> {
  return attempt(path, name, async () => {
    const handle = await open(join(path, name), 'r');
    handles.push(handle);
    return handle;
  });
}

async function verify(
  path: string,
  manifest: Manifest,
  files: Readonly<Record<CheckpointFile, FileHandle>>,
): Promise<void> {
  // Sizes first: they cost nothing and find every file that was cut short.
  for (const name of checkpointFiles) {
    const { size } = await attempt(path, name, () => files[name].stat());
    const { bytes } = manifest.files[name];
    if (size !== bytes) throw corrupt(path, name, `it has ${size} bytes instead of ${bytes}`);
  }
  for (const name of checkpointFiles) {
    const { sha256 } = await attempt(path, name, () => digestFile(files[name]));
    if (sha256 !== manifest.files[name].sha256)
      throw corrupt(
        path,
        name,
        `its SHA-256 is ${sha256.slice(0, 12)}… instead of ${manifest.files[name].sha256.slice(0, 12)}…`,
      );
  }
}

async function readState(path: string, handle: FileHandle): Promise<JsonObject> {
  return attempt(path, 'state.json', async () => JSON.parse(await handle.readFile('utf8')) as JsonObject);
}

async function readTensors(
  path: string,
  files: Readonly<Record<CheckpointFile, FileHandle>>,
  target: CheckpointTarget,
): Promise<void> {
  const parts = (
    [
      ['model.safetensors', target.model],
      ['optimizer.safetensors', target.optimizer],
    ] as const
  ).flatMap(([name, wanted]) => (wanted ? [{ name, wanted }] : []));
  const opened = [];
  for (const { name, wanted } of parts) {
    const file = await attempt(path, name, () => SafetensorsFile.fromHandle(files[name], join(path, name)));
    const differences = compare(file, wanted);
    if (differences.length > 0)
      throw new CheckpointError(
        'mismatch',
        `checkpoint ${path} does not fit: ${name} ${summary(differences)}`,
        name,
      );
    opened.push({ name, file, wanted: new Map(wanted.map((tensor) => [tensor.name, tensor])) });
  }
  for (const { name, file, wanted } of opened) {
    for (const entry of file.tensors.keys()) {
      await attempt(path, name, () => file.read(entry, { into: wanted.get(entry)!.data }));
    }
  }
}

function compare(file: SafetensorsFile, wanted: readonly NamedTensor[]): string[] {
  const names = new Set(wanted.map((tensor) => tensor.name));
  if (names.size < wanted.length) throw new TypeError('two tensors to load into have the same name');
  const differences: string[] = [];
  for (const { name, dtype, shape, data } of wanted) {
    const entry = file.tensors.get(name);
    const here = `${dtype} [${shape.join(', ')}]`;
    if (!entry) differences.push(`lacks ${quote(name)} ${here}`);
    else if (here !== `${entry.dtype} [${entry.shape.join(', ')}]`)
      differences.push(`has ${quote(name)} as ${entry.dtype} [${entry.shape.join(', ')}] instead of ${here}`);
    else if (data.byteLength !== entry.end - entry.begin)
      throw new TypeError(`tensor ${quote(name)} is given ${data.length} elements for ${here}`);
  }
  for (const { name, dtype, shape } of file.tensors.values()) {
    if (!names.has(name))
      differences.push(`has ${quote(name)} ${dtype} [${shape.join(', ')}], which is not expected`);
  }
  return differences;
}

function summary(differences: readonly string[]): string {
  const shown = differences.slice(0, 20).join('; ');
  return differences.length > 20 ? `${shown}; and ${differences.length - 20} more` : shown;
}

/** Errors that say something about this process or machine rather than about one checkpoint. */
const passing = new Set(['EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM']);

async function attempt<Result>(path: string, name: string, action: () => Promise<Result>): Promise<Result> {
  try {
    return await action();
  } catch (error) {
    if (passing.has(systemCode(error) ?? ''))
      throw new CheckpointError('read', `cannot read ${join(path, name)}: ${explain(error)}`, name, {
        cause: error,
      });
    throw corrupt(path, name, explain(error), error);
  }
}

function corrupt(path: string, name: string, reason: string, cause?: unknown): CheckpointError {
  const message = `checkpoint ${basename(path)} is damaged: ${join(path, name)}: ${reason}`;
  return new CheckpointError('corrupt', message, name, cause === undefined ? undefined : { cause });
}
