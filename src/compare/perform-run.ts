/**
 * One run of a grid from its recipe to its record.
 * @module
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { readModelConfig } from '../checkpoints/index.js';
import { createModel, sizeOfModel } from '../models/index.js';
import { recipeOfRun, requireLanguageModel, trainRecipe } from '../recipes/index.js';
import { readMetrics, readRecipe, type TrainingListener } from '../train/index.js';
import { GridError } from './grid.js';
import { measureRun } from './measure.js';
import type { ComparedRecipe, PlannedRun } from './plan.js';
import { meaningfulDifferences, writeRecord, type RunRecord } from './record.js';
import { curveOf, trainingOf } from './training-summary.js';

/** Where runs and records are, and what they may use. Plain data: a child process gets it whole. */
export interface RunSettings {
  /** Folder of records. */
  readonly out: string;
  /** Folder of run folders. */
  readonly runs: string;
  readonly cacheFolder: string;
  /** Keep `model/` in the run folder. Checkpoints go in any case. */
  readonly keep: boolean;
  /** For recipes that leave it open; ONNX Runtime's own choice when null. */
  readonly threads: number | null;
  /** Runs that go on at once, for the record. */
  readonly processes: number;
}

/** How a run ended; `interrupted` runs go on when they are performed again. */
export type RunOutcome =
  | { readonly kind: 'recorded'; readonly record: RunRecord }
  | { readonly kind: 'interrupted'; readonly step: number };

/** Folder of a run. */
export function runFolderOf(
  { grid, id }: Pick<PlannedRun, 'grid' | 'id'>,
  { runs }: Pick<RunSettings, 'runs'>,
): string {
  return join(runs, grid, id);
}

/**
 * Trains a run, or goes on where it was interrupted; measures it, writes its record, and deletes what is large.
 *
 * @throws GridError if the folder holds a run of another recipe; whatever training throws.
 */
export async function performRun(
  run: PlannedRun,
  settings: RunSettings,
  listener: TrainingListener = {},
): Promise<RunOutcome> {
  const { cacheFolder, processes } = settings;
  const folder = runFolderOf(run, settings);
  const resume = existsSync(join(folder, 'recipe.json'));
  const recipe = resume
    ? await recipeToResume(run.recipe, folder)
    : withThreads(run.recipe, settings.threads);
  const result = await trainRecipe(recipe, { folder, resume, cacheFolder, listener });
  if (result.outcome === 'interrupted') return { kind: 'interrupted', step: result.step };
  const evaluations = await measureRun(run, { folder, recipe, cacheFolder, validation: result.evaluation });
  const { environment = {} } = (await readRecipe(folder)) as { environment?: Record<string, string> };
  const metrics = readMetrics(join(folder, 'metrics.jsonl'));
  const { parameters, activeParameters, sparseParameters, forwardFlopsPerToken } = sizeOfModel(
    createModel((await readModelConfig(join(folder, 'model'))).options),
  );
  const record: RunRecord = {
    grid: run.grid,
    variant: run.variant,
    seed: run.seed,
    recipe: run.recipe,
    environment,
    outcome: result.outcome,
    steps: result.modelStep ?? result.step,
    size: { parameters, activeParameters, sparseParameters, forwardFlopsPerToken },
    match: run.match ?? null,
    evaluations,
    curve: curveOf(metrics),
    ...trainingOf(metrics),
    threads: recipe.train.threads ?? availableParallelism(),
    processes,
  };
  await writeRecord(settings.out, run.id, record);
  await rm(join(folder, 'checkpoints'), { recursive: true, force: true });
  if (!settings.keep) await rm(join(folder, 'model'), { recursive: true, force: true });
  return { kind: 'recorded', record };
}

/** Deletes the folder of a run, if there is a run in it. */
export async function forgetRun(run: PlannedRun, settings: RunSettings): Promise<void> {
  const folder = runFolderOf(run, settings);
  if (existsSync(join(folder, 'recipe.json'))) await rm(folder, { recursive: true });
}

/** In what an unfinished run differs from what is asked for; empty also where there is none. */
export async function unfinishedDifferences(
  run: PlannedRun,
  settings: RunSettings,
): Promise<readonly string[]> {
  const folder = runFolderOf(run, settings);
  if (!existsSync(join(folder, 'recipe.json'))) return [];
  return meaningfulDifferences(requireLanguageModel(await recipeOfRun(folder)), run.recipe);
}

/** A resumed run keeps its own name and threads, which decide its bits. */
async function recipeToResume(asked: ComparedRecipe, folder: string): Promise<ComparedRecipe> {
  const { environment: _, ...recipe } = requireLanguageModel(await recipeOfRun(folder));
  const differences = meaningfulDifferences(recipe, asked);
  if (differences.length > 0)
    throw new GridError(`${folder} holds a run of another recipe; it differs in ${differences.join('; ')}`);
  return recipe;
}

function withThreads(recipe: ComparedRecipe, threads: number | null): ComparedRecipe {
  return { ...recipe, train: { ...recipe.train, threads: recipe.train.threads ?? threads } };
}
