/**
 * Performs the runs of a grid that have no record yet, and writes table and figure after each.
 * @module
 */
import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { replaceFile } from '../checkpoints/index.js';
import { Interruption, type TrainingListener } from '../train/index.js';
import { performInChild } from './child-run.js';
import { comparisonCurves } from './curves.js';
import { GridError } from './grid.js';
import {
  forgetRun,
  performRun,
  unfinishedDifferences,
  type RunOutcome,
  type RunSettings,
} from './perform-run.js';
import type { Plan, PlannedRun } from './plan.js';
import { meaningfulDifferences, readRecord, recordPath, type RunRecord } from './record.js';
import { comparisonRows, comparisonTable, type ComparisonRow } from './table.js';

/** Told as a comparison goes on. */
export interface CompareListener {
  /** A run begins; what is returned is told of its steps. */
  readonly onStart?: (run: PlannedRun, index: number, total: number) => TrainingListener;
  readonly onRecord?: (run: PlannedRun, record: RunRecord, secondsLeft: number) => void;
  readonly onFailure?: (run: PlannedRun, message: string) => void;
  readonly onNote?: (message: string) => void;
  /** The first signal arrived. */
  readonly onInterrupt?: () => void;
}

/** Settings of {@link compare}. */
export interface CompareOptions {
  /** Folder of records, table and figure. */
  readonly out: string;
  /** Folder of run folders; default `runs/compare`. */
  readonly runs?: string;
  readonly cacheFolder?: string;
  /** Child processes at once; 0, the default, performs the runs here. */
  readonly processes?: number;
  /** The runs to perform; all of the plan when absent. */
  readonly selected?: readonly PlannedRun[];
  /** Repeat runs whose record or folder is of another recipe. */
  readonly force?: boolean;
  /** Keep the trained models in the run folders. */
  readonly keep?: boolean;
  /** How to make the table again, for its last line. */
  readonly command: string;
  readonly listener?: CompareListener;
}

/** What came of a comparison. */
export interface Comparison {
  readonly rows: readonly ComparisonRow[];
  readonly recorded: number;
  readonly skipped: number;
  readonly failures: readonly { readonly run: string; readonly message: string }[];
  readonly interrupted: boolean;
}

/** What is there of a run before anything is done. */
export interface RunState {
  readonly run: PlannedRun;
  readonly record: RunRecord | undefined;
  /** Where the record, or else the unfinished run, differs from what is asked for. */
  readonly differences: readonly string[];
}

/** Looks at records and run folders. @throws GridError, RecipeError or RunFolderError for what cannot be read. */
export async function runStates(
  runs: readonly PlannedRun[],
  settings: RunSettings,
): Promise<readonly RunState[]> {
  return Promise.all(
    runs.map(async (run) => {
      const record = readRecord(settings.out, run);
      const differences = record
        ? meaningfulDifferences(record.recipe, run.recipe)
        : await unfinishedDifferences(run, settings);
      return { run, record, differences };
    }),
  );
}

/** Where runs go and what each may use. @throws GridError for more processes than cores. */
export function runSettings(options: Omit<CompareOptions, 'command'>): RunSettings {
  const {
    out,
    runs = join('runs', 'compare'),
    cacheFolder = '.cache',
    processes = 0,
    keep = false,
  } = options;
  const cores = availableParallelism();
  if (processes > cores) {
    const message = `${processes} processes at once need as many cores, and there ${cores === 1 ? 'is 1' : `are ${cores}`}`;
    throw new GridError(`${message}; choose 1 … ${cores}`);
  }
  const threads = processes > 1 ? Math.floor(cores / processes) : null;
  return { out, runs, cacheFolder, keep, threads, processes: Math.max(1, processes) };
}

/**
 * Performs a plan. A run that fails does not stop the others; a signal stops all after their step.
 *
 * @throws GridError before any run if a record or an unfinished run is of another recipe and `force` is not given.
 */
export async function compare(plan: Plan, options: CompareOptions): Promise<Comparison> {
  const { listener = {}, force = false, selected = plan.runs, processes = 0 } = options;
  const settings = runSettings(options);
  const states = await runStates(selected, settings);
  const conflicts = states.filter(({ differences }) => differences.length > 0);
  if (conflicts.length > 0 && !force) throw new GridError(explainConflicts(conflicts, settings));
  const pending = states.filter(({ record, differences }) => !record || differences.length > 0);
  const skipped = selected.length - pending.length;

  const stops = new Set<() => void>();
  const interruption = new Interruption({
    onRequest: () => {
      listener.onInterrupt?.();
      for (const stop of stops) stop();
    },
  });
  const failures: { run: string; message: string }[] = [];
  let recorded = 0;
  let ended = 0;
  const began = performance.now();
  const queue = [...pending.entries()];
  const write = serialized(() => writeResults(plan, options, settings));

  const perform = async ({ run, differences }: RunState, index: number): Promise<RunOutcome> => {
    if (differences.length > 0) await forgetRun(run, settings);
    const training = listener.onStart?.(run, index + 1, pending.length) ?? {};
    if (processes === 0) return performRun(run, settings, training);
    let stop: (() => void) | undefined;
    try {
      return await performInChild(run, settings, training, (given) => stops.add((stop = given)));
    } finally {
      if (stop) stops.delete(stop);
    }
  };
  const lane = async (): Promise<void> => {
    for (let next; !interruption.requested && (next = queue.shift());) {
      const [index, state] = next;
      try {
        const outcome = await perform(state, index);
        if (outcome.kind === 'interrupted') continue;
        recorded++;
        ended++;
        const left = ((performance.now() - began) / 1000 / ended) * (pending.length - ended);
        listener.onRecord?.(state.run, outcome.record, left);
      } catch (error) {
        ended++;
        const message = error instanceof Error ? error.message : String(error);
        failures.push({ run: state.run.id, message });
        listener.onFailure?.(state.run, message);
        continue;
      }
      await write();
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.max(1, processes) }, lane));
    const rows = await write();
    return { rows, recorded, skipped, failures, interrupted: interruption.requested };
  } finally {
    interruption.dispose();
  }
}

/** `table.md` and `curves.svg` from every record of the plan that fits it. */
async function writeResults(
  plan: Plan,
  { out, command, listener }: CompareOptions,
  settings: RunSettings,
): Promise<readonly ComparisonRow[]> {
  const states = await runStates(plan.runs, settings);
  const records = states.flatMap(({ record, differences }) =>
    record && differences.length === 0 ? [record] : [],
  );
  for (const { run, record, differences } of states) {
    if (record && differences.length > 0)
      listener?.onNote?.(`left out of the table: ${run.id}, whose record is of another recipe`);
  }
  if (records.length > 0) {
    await mkdir(out, { recursive: true });
    const table = comparisonTable(plan, records, command);
    await replaceFile(join(out, 'table.md'), (handle) => handle.writeFile(table));
    await replaceFile(join(out, 'curves.svg'), (handle) => handle.writeFile(comparisonCurves(plan, records)));
  }
  return comparisonRows(plan, records);
}

function explainConflicts(conflicts: readonly RunState[], settings: RunSettings): string {
  const [{ run, record, differences }] = conflicts;
  const what = record ? recordPath(settings.out, run) : `the unfinished run ${run.id}`;
  const more =
    conflicts.length > 1
      ? `; and ${conflicts.length - 1} more such run${conflicts.length > 2 ? 's' : ''}`
      : '';
  return `${what} is of another recipe; it differs in ${differences.join('; ')}${more}. Say --force to repeat, or choose another --out`;
}

/** Calls of an asynchronous function one after the other. */
function serialized<Result>(work: () => Promise<Result>): () => Promise<Result> {
  let last: Promise<unknown> = Promise.resolve();
  return () => {
    const result = last.then(work);
    last = result.catch(() => undefined);
    return result;
  };
}
