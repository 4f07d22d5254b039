/**
 * The folder of a run.
 *
 * ```
 * runs/first/
 *   recipe.json      everything the run is made from
 *   metrics.jsonl    one line a record
 *   checkpoints/     step-000100/ …, latest
 *   run.lock         while a process works on the run
 * ```
 * @module
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  encodeJson,
  explain,
  replaceFile,
  syncFolder,
  systemCode,
  type JsonObject,
} from '../checkpoints/index.js';
import { CheckpointStore, type CheckpointStoreOptions } from './checkpoint-store.js';
import { MetricsLog } from './metrics-log.js';
import { RunFolderError } from './run-folder-error.js';
import { RunLock, type RunLockOptions } from './run-lock.js';

/** Options of {@link RunFolder.create} and {@link RunFolder.open}. */
export interface RunFolderOptions {
  /** What to keep of the checkpoints. */
  readonly checkpoints?: CheckpointStoreOptions;
  /** Times of the lock. */
  readonly lock?: RunLockOptions;
}

/**
 * A run that this process works on. Nobody else can open it until {@link close} or the end of the process.
 *
 * To look at a run without working on it, use {@link readRecipe}, `readMetrics` and a `CheckpointStore`.
 *
 * @example
 * ```ts
 * const run = await RunFolder.create('runs/first', recipe);
 * try {
 *   run.append({ step: 1, loss: 5.5 });
 *   await run.checkpoints.save(1, { model, optimizer, state: { step: 1 } });
 * } finally {
 *   run.close();
 * }
 * ```
 */
export class RunFolder {
  /** Checkpoints of the run. A save first makes sure of the lock, and makes all metrics so far durable. */
  readonly checkpoints: CheckpointStore;

  private constructor(
    readonly path: string,
    /** The recipe as it was written; whoever uses it checks it against its schema. */
    readonly recipe: JsonObject,
    private readonly lock: RunLock,
    private readonly metrics: MetricsLog,
    options: CheckpointStoreOptions = {},
  ) {
    this.checkpoints = new CheckpointStore(join(path, 'checkpoints'), {
      ...options,
      onStage: async (stage, checkpoint) => {
        this.lock.beat();
        this.lock.assertHeld();
        if (stage === 'data') this.metrics.sync();
        await options.onStage?.(stage, checkpoint);
      },
    });
  }

  /**
   * Creates a run. The folder may exist, but may not hold a run.
   *
   * @param recipe written as `recipe.json`.
   * @throws RunFolderError `exists`, `system` for a folder that cannot be written, `locked`.
   */
  static async create(path: string, recipe: JsonObject, options: RunFolderOptions = {}): Promise<RunFolder> {
    const text = `${encodeJson(recipe, 2)}\n`;
    await attempt(`cannot create the run folder ${path}`, () => mkdir(path, { recursive: true }));
    const lock = await RunLock.acquire(join(path, 'run.lock'), options.lock);
    try {
      assertNoRun(path);
      const file = join(path, 'recipe.json');
      await attempt(`cannot write the run folder ${path}`, async () => {
        await mkdir(join(path, 'checkpoints'), { recursive: true });
        await replaceFile(file, (handle) => handle.writeFile(text));
        await syncFolder(dirname(path));
      });
      const metrics = MetricsLog.open(join(path, 'metrics.jsonl'));
      return new RunFolder(path, JSON.parse(text) as JsonObject, lock, metrics, options.checkpoints);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /**
   * Opens a run to go on with it.
   * @throws RunFolderError `absent`, `invalid`, `system`, or `locked`, naming the process that works on it.
   */
  static async open(path: string, options: RunFolderOptions = {}): Promise<RunFolder> {
    const recipe = await readRecipe(path);
    const lock = await RunLock.acquire(join(path, 'run.lock'), options.lock);
    try {
      const metrics = MetricsLog.open(join(path, 'metrics.jsonl'));
      return new RunFolder(path, recipe, lock, metrics, options.checkpoints);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /**
   * Appends a line to `metrics.jsonl`. Write all lines of a step before its checkpoint is saved.
   * @throws RangeError, RunFolderError as `MetricsLog.append` does.
   */
  append(record: JsonObject & { readonly step: number }): void {
    this.lock.beat();
    this.metrics.append(record);
  }

  /**
   * Makes the run as it was at a step: drops the metrics past it and sets later checkpoints aside. Call it after a
   * checkpoint was loaded and before the first new step; with 0 when there was none.
   *
   * @returns paths of the checkpoints that were set aside.
   */
  async rewind(step: number): Promise<string[]> {
    this.lock.assertHeld();
    const aside = await this.checkpoints.rewind(step);
    this.metrics.truncateAfter(step);
    return aside;
  }

  /** Closes the files and gives the lock back. A save must not be under way. */
  close(): void {
    this.metrics.close();
    this.lock.release();
  }
}

/** @throws RunFolderError `exists` if a run was created in the folder. */
export function assertNoRun(path: string): void {
  if (existsSync(join(path, 'recipe.json')))
    throw new RunFolderError('exists', `there is a run in ${path}; resume it, or choose another folder`);
}

/**
 * The recipe of a run, without taking the run's lock.
 * @throws RunFolderError `absent`, `invalid` or `system`.
 */
export async function readRecipe(path: string): Promise<JsonObject> {
  const file = join(path, 'recipe.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const isAbsent = ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
    if (isAbsent) throw new RunFolderError('absent', `there is no run in ${path}: ${file} does not exist`);
    throw new RunFolderError('system', `cannot read ${file}: ${explain(error)}`, { cause: error });
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  } catch (error) {
    throw new RunFolderError('invalid', `${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  throw new RunFolderError('invalid', `${file} must hold a JSON object`);
}

async function attempt<Result>(what: string, action: () => Promise<Result>): Promise<Result> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof RunFolderError) throw error;
    throw new RunFolderError('system', `${what}: ${explain(error)}`, { cause: error });
  }
}
