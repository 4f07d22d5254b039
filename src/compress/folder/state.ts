/**
 * Finished layers of a compression, kept beside the output until it is there: a job that was killed goes on from them.
 * @module
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  digestFile,
  encodeJson,
  replaceFile,
  saveSafetensors,
  type FileDigest,
  type LayerHeader,
  type PackedLayer,
} from '../../checkpoints/index.js';
import { RunFolderError, RunLock } from '../../train/index.js';
import type { CompressionJob, LayerOutcome } from './job.js';

/** Thrown when a compression cannot begin or go on; the message is one line that says what to do. */
export class CompressionError extends Error {
  override readonly name = 'CompressionError';
}

/** A finished layer: its tensors lie in a file of their own. */
export interface FinishedLayer {
  readonly header: LayerHeader;
  readonly outcome: LayerOutcome;
  readonly file: string;
}

/** What is written beside the tensors of a finished layer. */
interface LayerEntry {
  readonly header: LayerHeader;
  readonly outcome: LayerOutcome;
  readonly digest: FileDigest;
}

/** See the module. One process at a time holds it. */
export class CompressionState {
  private constructor(
    /** The folder. */
    readonly path: string,
    private readonly lock: RunLock,
  ) {}

  /** The folder that a job keeps its finished layers in. */
  static pathOf(out: string): string {
    return `${out.replace(/[\\/]+$/, '')}.partial`;
  }

  /**
   * Takes the folder for a job, new or from an earlier run of the same job.
   * @throws CompressionError if it belongs to another job, or another process works on it.
   */
  static async open(job: CompressionJob): Promise<CompressionState> {
    const path = CompressionState.pathOf(job.out);
    await mkdir(path, { recursive: true });
    const lock = await RunLock.acquire(join(path, 'lock')).catch((error: unknown) => {
      if (!(error instanceof RunFolderError)) throw error;
      const what = error.code === 'locked' ? 'another process compresses into it: ' : '';
      throw new CompressionError(`${path}: ${what}${error.message}`, { cause: error });
    });
    try {
      const file = join(path, 'job.json');
      const print = await fingerprint(job);
      if (!existsSync(file)) await replaceFile(file, (handle) => handle.writeFile(print));
      else if ((await readFile(file, 'utf8')) !== print)
        throw new CompressionError(
          `${path}: holds the layers of another compression, of other weights or with other options; ` +
            `give the same options to go on with it, or remove that folder`,
        );
      await removeLeftovers(path, job.out);
      return new CompressionState(path, lock);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** A layer that is finished; undefined if it is not, or its file is not what was written. */
  async find(index: number): Promise<FinishedLayer | undefined> {
    const file = this.file(index);
    let entry: LayerEntry;
    try {
      entry = JSON.parse(await readFile(`${file}.json`, 'utf8')) as LayerEntry;
      const handle = await open(file, 'r');
      const { sha256 } = await digestFile(handle).finally(() => handle.close());
      if (sha256 !== entry.digest.sha256) return undefined;
    } catch {
      return undefined;
    }
    return { header: entry.header, outcome: entry.outcome, file };
  }

  /** Keeps a layer. */
  async keep(index: number, packed: PackedLayer, outcome: LayerOutcome): Promise<void> {
    const file = this.file(index);
    this.lock.assertHeld();
    const digest = await saveSafetensors(file, packed.tensors);
    const entry = { header: packed.header, outcome, digest };
    await replaceFile(`${file}.json`, (handle) => handle.writeFile(encodeJson(entry)));
  }

  /** Whether there is a finished layer to go on from. */
  async holdsLayers(): Promise<boolean> {
    const names = await readdir(this.path).catch(() => []);
    return names.some((name) => name.endsWith('.safetensors.json'));
  }

  /** Lets the folder go, for another run of the job. */
  release(): void {
    this.lock.release();
  }

  /** Removes the folder: the output is there. */
  async remove(): Promise<void> {
    this.lock.release();
    await rm(this.path, { recursive: true, force: true });
  }

  private file(index: number): string {
    return join(this.path, `layer-${String(index).padStart(4, '0')}.safetensors`);
  }
}

/** What two runs must have in common to share their layers: the weights, by size and time, and all that decides them. */
async function fingerprint({
  folder,
  source,
  config,
  layers,
  about,
  budget,
  seed,
}: CompressionJob): Promise<string> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
  const files = await Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(folder, name));
      return { name, size, mtimeMs };
    }),
  );
  const tensors = createHash('sha256')
    .update(JSON.stringify([...source.tensors]))
    .digest('hex');
  const value = { files, tensors, config, layers: layers.map(({ layout }) => layout), about, budget, seed };
  return `${encodeJson(value)}\n`;
}

/** What a killed process had not yet renamed, here and beside the output. Only the holder of the lock writes there. */
async function removeLeftovers(path: string, out: string): Promise<void> {
  const leftover = /\.tmp-\d+-[0-9a-f]{8}$/;
  const prefix = `${basename(out.replace(/[\\/]+$/, ''))}.tmp-`;
  const stale = [
    ...(await readdir(path)).filter((name) => leftover.test(name)).map((name) => join(path, name)),
    ...(await readdir(dirname(path)))
      .filter((name) => name.startsWith(prefix) && leftover.test(name))
      .map((name) => join(dirname(path), name)),
  ];
  for (const name of stale) await rm(name, { recursive: true, force: true });
}

/** Whether a folder is there and holds something. */
export async function isFilled(path: string): Promise<boolean> {
  return existsSync(path) && (!(await stat(path)).isDirectory() || (await readdir(path)).length > 0);
}

/** Writes a small file of a folder that is being made, synced. */
export async function writeSmall(path: string, content: string | Uint8Array): Promise<void> {
  await writeFile(path, content, { flush: true });
}
