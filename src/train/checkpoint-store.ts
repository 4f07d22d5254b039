/**
 * The checkpoints of a run: `<run>/checkpoints/step-000100/`.
 * @module
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { explain, replaceFile, syncFolder, systemCode, temporaryName } from '../checkpoints/index.js';
import { CheckpointError } from './checkpoint-error.js';
import {
  isBeingRead,
  loadCheckpoint,
  loadManifest,
  type CheckpointTarget,
  type LoadedCheckpoint,
} from './checkpoint-load.js';
import { inFlight, namesIn, removeLeftovers, stepName, stepOf } from './checkpoint-names.js';
import { saveCheckpoint, type CheckpointContents, type StageHook } from './checkpoint-save.js';

/** Options of a {@link CheckpointStore}. */
export interface CheckpointStoreOptions {
  /** Newest checkpoints to keep, at least 1; default 3. `Infinity` keeps all. */
  readonly keepLast?: number;
  /** Also keeps the checkpoint with the lowest or highest figure among the `metrics` given to `save`. */
  readonly keepBest?: { readonly metric: string; readonly mode: 'min' | 'max' };
  /** Called before every stage of a save. */
  readonly onStage?: StageHook;
}

/** A finished checkpoint. */
export interface CheckpointInfo {
  readonly step: number;
  /** Its folder, with `model.safetensors`, `optimizer.safetensors`, `state.json` and `manifest.json`. */
  readonly path: string;
}

/** What {@link CheckpointStore.loadLatestUsable} found. */
export interface UsableCheckpoint extends LoadedCheckpoint {
  /** One line for every newer checkpoint that was passed over. */
  readonly warnings: readonly string[];
}

/**
 * Saves, lists and loads checkpoints.
 *
 * A checkpoint is listed only when it is whole and durable, is never overwritten, and is verified (sizes and SHA-256
 * of every file) before anything of it is used. The newest listed step is the latest one; the file `latest` holds its
 * name for people and other programs, and may lag by one step after a crash.
 *
 * @example
 * ```ts
 * const store = new CheckpointStore('runs/first/checkpoints', { keepLast: 2 });
 * await store.save(100, { model, optimizer, state: { step: 100 } });
 * const { state } = await store.load('latest', { model, optimizer });
 * ```
 */
export class CheckpointStore {
  private readonly keepLast: number;
  private saving: Promise<unknown> = Promise.resolve();

  /** @throws RangeError if `keepLast` is not a whole number from 1, or Infinity. */
  constructor(
    readonly folder: string,
    private readonly options: CheckpointStoreOptions = {},
  ) {
    this.keepLast = options.keepLast ?? 3;
    if (!(this.keepLast === Infinity || Number.isSafeInteger(this.keepLast)) || this.keepLast < 1)
      throw new RangeError(`keepLast must be a whole number from 1, or Infinity, not ${this.keepLast}`);
  }

  /**
   * Saves a checkpoint, moves `latest`, and removes checkpoints that need not be kept. Saves run one after another.
   *
   * @param metrics figures for `keepBest`; those that are absent or not finite are left out.
   * @throws CheckpointError `exists`; `save` when nothing was saved; `finish` when the checkpoint is saved, but
   *   `latest` could not be moved or old ones not removed. All older checkpoints are then still there.
   */
  save(
    step: number,
    contents: CheckpointContents,
    { metrics = {} }: { readonly metrics?: Readonly<Record<string, number | undefined>> } = {},
  ): Promise<CheckpointInfo> {
    const run = this.saving.then(() => this.saveNow(step, contents, metrics));
    this.saving = run.catch(() => undefined);
    return run;
  }

  /** Finished checkpoints, oldest first; none if the folder does not exist. They are not verified. */
  async list(): Promise<CheckpointInfo[]> {
    let names: string[];
    try {
      names = await namesIn(this.folder);
    } catch (error) {
      throw new CheckpointError('read', `cannot list ${this.folder}: ${explain(error)}`, undefined, {
        cause: error,
      });
    }
    return names
      .flatMap((name) => stepOf(name) ?? [])
      .sort((a, b) => a - b)
      .map((step) => ({ step, path: this.pathOf(step) }));
  }

  /** The newest finished checkpoint. It is not verified. */
  async latest(): Promise<CheckpointInfo | undefined> {
    return (await this.list()).at(-1);
  }

  /**
   * Verifies a checkpoint and reads it into the given views. Nothing is written before all checks have passed.
   * @throws CheckpointError `absent`; `corrupt`, which names the file; `mismatch`, which lists the tensors; `read`.
   */
  async load(step: number | 'latest', target: CheckpointTarget): Promise<LoadedCheckpoint> {
    const found = await this.find(step);
    return loadCheckpoint(found.path, found.step, target);
  }

  /**
   * Verifies a checkpoint without reading its tensors.
   * @throws CheckpointError as {@link load} does.
   */
  async verify(step: number | 'latest'): Promise<LoadedCheckpoint> {
    const found = await this.find(step);
    return loadCheckpoint(found.path, found.step, undefined);
  }

  /**
   * Like `load('latest')`, but passes over damaged checkpoints and says so in `warnings`.
   * @returns `undefined` if there is no checkpoint at all.
   * @throws CheckpointError `corrupt` if all are damaged; `mismatch` and `read` at once, since an older checkpoint
   *   would meet the same.
   */
  async loadLatestUsable(target: CheckpointTarget): Promise<UsableCheckpoint | undefined> {
    const all = (await this.list()).reverse();
    const warnings: string[] = [];
    for (const { step, path } of all) {
      try {
        const loaded = await loadCheckpoint(path, step, target);
        const complete = warnings.map((warning) => `${warning}; falling back to ${stepName(step)}`);
        return { ...loaded, warnings: complete };
      } catch (error) {
        if (!(error instanceof CheckpointError && error.code === 'corrupt')) throw error;
        warnings.push(error.message);
      }
    }
    if (all.length === 0) return undefined;
    throw new CheckpointError('corrupt', `no checkpoint in ${this.folder} is usable: ${warnings.join('; ')}`);
  }

  /**
   * Makes `step` the latest checkpoint by setting newer ones aside, so that a run resumed there can save again. They
   * are renamed to `step-000200.abandoned-1`, which is not listed, and never removed.
   * @returns the new paths.
   * @throws CheckpointError
   */
  async rewind(step: number): Promise<string[]> {
    const later = (await this.list()).filter((info) => info.step > step).reverse();
    if (later.length === 0) return [];
    const paths: string[] = [];
    try {
      for (const { path } of later) {
        let copy = 1;
        while (!(await renameAside(path, `${path}.abandoned-${copy}`))) copy++;
        paths.push(`${path}.abandoned-${copy}`);
      }
      await syncFolder(this.folder);
      const latest = await this.latest();
      if (latest) await this.pointTo(latest.step);
      else await rm(join(this.folder, 'latest'), { force: true });
    } catch (error) {
      const reason = `cannot set aside the checkpoints after step ${step} in ${this.folder}: ${explain(error)}`;
      throw new CheckpointError('save', reason, undefined, { cause: error });
    }
    return paths;
  }

  private async saveNow(
    step: number,
    contents: CheckpointContents,
    metrics: Readonly<Record<string, number | undefined>>,
  ): Promise<CheckpointInfo> {
    if (!Number.isSafeInteger(step) || step < 0)
      throw new RangeError(`a step is a whole number from 0, not ${step}`);
    const name = stepName(step);
    const onStage = this.options.onStage ?? ((): void => undefined);
    try {
      await mkdir(this.folder, { recursive: true });
      await removeLeftovers(this.folder);
    } catch (error) {
      const reason = `cannot save checkpoint ${name} in ${this.folder}: ${explain(error)}`;
      throw new CheckpointError('save', reason, undefined, { cause: error });
    }
    const finite = Object.fromEntries(
      Object.entries(metrics).filter((entry): entry is [string, number] => Number.isFinite(entry[1])),
    );
    await saveCheckpoint(this.folder, step, contents, finite, onStage);
    try {
      await onStage('latest', name);
      await this.pointTo((await this.latest())!.step);
      await onStage('retention', name);
      await this.removeOld(step);
    } catch (error) {
      const reason = `checkpoint ${name} is saved in ${this.folder}, but tidying up failed: ${explain(error)}`;
      throw new CheckpointError('finish', reason, undefined, { cause: error });
    }
    return { step, path: this.pathOf(step) };
  }

  private pathOf(step: number): string {
    return join(this.folder, stepName(step));
  }

  private async find(step: number | 'latest'): Promise<CheckpointInfo> {
    const all = await this.list();
    const found = step === 'latest' ? all.at(-1) : all.find((info) => info.step === step);
    if (found) return found;
    if (all.length === 0) throw new CheckpointError('absent', `there is no checkpoint in ${this.folder}`);
    const steps = all.map((info) => info.step).join(', ');
    throw new CheckpointError(
      'absent',
      `there is no checkpoint of step ${step} in ${this.folder}; there are ${steps}`,
    );
  }

  private async pointTo(step: number): Promise<void> {
    await replaceFile(join(this.folder, 'latest'), async (handle) => {
      await handle.writeFile(`${stepName(step)}\n`);
    });
  }

  /** Removes all checkpoints but the newest, the best, the one just saved, and those that are being read. */
  private async removeOld(saved: number): Promise<void> {
    const all = await this.list();
    if (all.length <= this.keepLast) return;
    const kept = new Set([saved, ...all.slice(-this.keepLast).map((info) => info.step)]);
    const best = await this.best(all);
    if (best !== undefined) kept.add(best);
    for (const { step, path } of all) {
      if (kept.has(step) || isBeingRead(path)) continue;
      // Renamed first: a crash half-way through the removal must not leave half a checkpoint listed.
      const temporary = temporaryName(path);
      inFlight.add(temporary);
      try {
        await rename(path, temporary);
        await rm(temporary, { recursive: true, force: true });
      } finally {
        inFlight.delete(temporary);
      }
    }
  }

  private async best(all: readonly CheckpointInfo[]): Promise<number | undefined> {
    const { keepBest } = this.options;
    if (!keepBest) return undefined;
    const sign = keepBest.mode === 'min' ? 1 : -1;
    let best: { step: number; score: number } | undefined;
    for (const { step, path } of all) {
      // A damaged manifest has no figures; it is kept or removed by its age.
      const manifest = await loadManifest(path, step).catch(() => undefined);
      const value = manifest?.metrics?.[keepBest.metric];
      if (value !== undefined && (!best || sign * value < best.score)) best = { step, score: sign * value };
    }
    return best?.step;
  }
}

/** Renames a folder unless the new name is taken. */
async function renameAside(from: string, to: string): Promise<boolean> {
  try {
    // A rename onto an empty folder would succeed; making the name first and failing if it exists is exact.
    await mkdir(to);
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
  await rename(from, to);
  return true;
}
