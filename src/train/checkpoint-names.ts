/**
 * Names inside a checkpoints folder: finished steps, work in progress, and what was set aside.
 * @module
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '../checkpoints/index.js';
import { isProcessAlive } from './process-alive.js';

/** Folder name of a step: `step-000100`. */
export function stepName(step: number): string {
  return `step-${String(step).padStart(6, '0')}`;
}

/** Step of a finished checkpoint's name; `undefined` for every other name. */
export function stepOf(name: string): number | undefined {
  const step = Number(/^step-(\d{6,15})$/.exec(name)?.[1] ?? NaN);
  return Number.isSafeInteger(step) && stepName(step) === name ? step : undefined;
}

/** Names in a folder; none if it does not exist. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Temporary names that this process is working on. */
export const inFlight = new Set<string>();

/**
 * Removes what broken-off saves and removals left behind. Work of other living processes is left alone, and so is
 * this process's own ({@link inFlight}); an earlier process may have had the same id, as is usual in containers.
 */
export async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    const pid = Number(/^(?:step-\d+|latest)\.tmp-(\d+)-[0-9a-f]+$/.exec(name)?.[1] ?? NaN);
    if (Number.isNaN(pid)) continue;
    const path = join(folder, name);
    const inUse = pid === process.pid ? inFlight.has(path) : isProcessAlive(pid);
    if (!inUse) await rm(path, { recursive: true, force: true });
  }
}
