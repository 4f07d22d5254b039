/**
 * From a recipe to a trained run folder: opens data, builds the model, and hands both to the trainer.
 * @module
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Tokenizer } from '../data/index.js';
import type { JsonObject } from '../checkpoints/index.js';
import { createModel, type ModelOptions } from '../models/index.js';
import {
  assertNoRun,
  copyFromTeacher,
  fingerprintOf,
  Interruption,
  loadModel,
  readRecipe,
  resumeTraining,
  RunFolder,
  saveStart,
  runTraining,
  saveModelConfig,
  Trainer,
  type TeacherModel,
  type TrainingListener,
  type TrainingResult,
} from '../train/index.js';
import { parseRecipe, recipeDifferences, RecipeError } from './load.js';
import { hasPadding, openRecipeData } from './open-recipe-data.js';
import type { Recipe } from './schema.js';

/** Settings of {@link trainRecipe}. */
export interface TrainRecipeOptions {
  /** The run folder. */
  readonly folder: string;
  /** Continue the run in the folder, which must have been made from the same recipe. */
  readonly resume?: boolean;
  /** A model or run folder whose weights the run starts from, where names and shapes agree. */
  readonly from?: string;
  /** Learnt tokenizers and tokenised text; default `.cache`. */
  readonly cacheFolder?: string;
  readonly listener?: TrainingListener;
  /** Called at the first signal that asks the run to stop. */
  readonly onInterrupt?: () => void;
}

/** A finished or interrupted run. */
export interface TrainedRun extends TrainingResult {
  readonly folder: string;
  readonly parameters: number;
}

/**
 * Trains a recipe in a run folder, or continues to.
 *
 * @throws RecipeError if the folder holds a run of another recipe (the message lists what differs), or `from` does not
 *   fit the model.
 * @throws RunFolderError, CheckpointError, DeviceError, each with one clear line.
 * @example
 * await trainRecipe(loadRecipe('demo'), { folder: 'runs/demo' });
 */
export async function trainRecipe(recipe: Recipe, options: TrainRecipeOptions): Promise<TrainedRun> {
  const { folder, resume = false, from, cacheFolder = '.cache', listener = {} } = options;
  if (resume && from !== undefined) {
    throw new RecipeError(`a resumed run goes on with its own weights: leave out --from ${from}`);
  }
  // Before the work of opening data, which a large corpus makes long.
  if (resume) await assertSameRecipe(recipe, folder);
  else assertNoRun(folder);
  const data = await openRecipeData(recipe, { cacheFolder });
  try {
    const model = createModel(modelOptions(recipe, data.tokenizer));
    const teacher = await openTeacher(recipe, data.tokenizer);
    const trainer = await Trainer.create({
      model,
      data,
      options: recipe.train,
      seed: recipe.seed,
      padded: hasPadding(recipe),
      teacher,
    });
    try {
      if (from !== undefined && !resume)
        for (const line of await startFrom(from, trainer, data.tokenizer, recipe.model.kind))
          listener.onWarning?.(line);
      const isTaught = teacher !== undefined && recipe.train.distillation?.initialize === true;
      if (isTaught && from === undefined && !resume)
        copyFromTeacher(trainer.weights.all, trainer.shapes, teacher);
      const environment = {
        ...versions(),
        data: data.provenance,
        ...(from === undefined ? {} : { from }),
        ...(teacher ? { teacher: fingerprintOf(teacher) } : {}),
      };
      const complete = { ...recipe, environment };
      const store = { checkpoints: { keepLast: recipe.train.checkpoint.keep, ...keepBest(recipe) } };
      const run = resume
        ? await RunFolder.open(folder, store)
        : await RunFolder.create(folder, complete, store);
      const interruption = new Interruption(options.onInterrupt ? { onRequest: options.onInterrupt } : {});
      try {
        if (resume) {
          const notes = [
            ...changedEnvironment(run.recipe, environment),
            ...(await resumeTraining(trainer, run)),
          ];
          for (const line of notes) listener.onWarning?.(line);
        } else if (from !== undefined || isTaught) {
          await saveStart(trainer, run);
        }
        await saveModelConfig(join(folder, 'model'), model.options, data.tokenizer);
        const result = await runTraining(trainer, run, recipe.train, interruption, listener);
        const parameters = [...trainer.weights.all.values()].reduce((sum, { length }) => sum + length, 0);
        return { ...result, folder, parameters };
      } finally {
        interruption.dispose();
        run.close();
      }
    } finally {
      await trainer.release();
    }
  } finally {
    data.close();
  }
}

/** The recipe of an existing run. */
export async function recipeOfRun(folder: string): Promise<Recipe> {
  return parseRecipe(await readRecipe(folder), join(folder, 'recipe.json'));
}

async function assertSameRecipe(recipe: Recipe, folder: string): Promise<void> {
  const comparable = (value: Recipe): unknown =>
    JSON.parse(JSON.stringify({ ...value, environment: undefined }));
  const differences = recipeDifferences(comparable(await recipeOfRun(folder)), comparable(recipe));
  if (differences.length > 0) {
    throw new RecipeError(`${folder} was made with another recipe; it differs in ${differences.join('; ')}`);
  }
}

/** The options of a recipe's model with what they take from the tokenizer. */
function modelOptions(recipe: Recipe, { vocabSize: tokens, special }: Tokenizer): ModelOptions {
  const { model } = recipe;
  const vocabSize = vocabularyOf(recipe, tokens);
  if (model.kind === 'languageModel') return { ...model, vocabSize };
  const ids = { padTokenId: special.pad, eosTokenId: special.eos };
  for (const key of ['padTokenId', 'eosTokenId'] as const) {
    if (model[key] === undefined || model[key] === ids[key]) continue;
    throw new RecipeError(
      `model.${key} is ${model[key]}, but the tokenizer's is ${ids[key] ?? 'absent'}; leave it out to take theirs`,
    );
  }
  const known = Object.fromEntries(Object.entries(ids).filter(([, id]) => id !== undefined));
  return { ...model, ...known, vocabSize };
}

function vocabularyOf({ model }: Recipe, tokens: number): number {
  if (model.vocabSize !== undefined && model.vocabSize < tokens) {
    throw new RecipeError(
      `model.vocabSize ${model.vocabSize} is less than the tokenizer's ${tokens} tokens; leave it out to take theirs`,
    );
  }
  return model.vocabSize ?? tokens;
}

function keepBest({ train }: Recipe): { keepBest?: { metric: string; mode: 'min' } } {
  return train.earlyStop === null ? {} : { keepBest: { metric: 'validationLoss', mode: 'min' } };
}

/** A run that goes on with other versions or data than it began with may not repeat its bits. */
function changedEnvironment(recipe: JsonObject, now: Readonly<Record<string, string>>): string[] {
  const { from: _, ...before } = (recipe['environment'] ?? {}) as Record<string, string>;
  const changes = recipeDifferences(before, now);
  return changes.length === 0 ? [] : [`the run began in another environment: ${changes.join('; ')}`];
}

async function startFrom(
  from: string,
  trainer: Trainer,
  tokenizer: Tokenizer,
  kind: ModelOptions['kind'],
): Promise<readonly string[]> {
  const { model, weights, warnings, tokenizer: theirs } = await loadModel(from);
  if (theirs?.fingerprint !== tokenizer.fingerprint) {
    throw new RecipeError(
      `the model in ${from} has another tokenizer than the recipe; name it in the recipe: "tokenizer": {"kind": "file", "path": "…/tokenizer.json"}`,
    );
  }
  const given = new Map([...model.parameters()].map(([name, { shape }]) => [name, shape]));
  const wanted = trainer.shapes;
  const format = (shape: readonly number[] | undefined): string =>
    shape ? `[${shape.join(', ')}]` : 'absent';
  // A classifier begins with the pre-trained stacks: its head is new, and what only speaks is left out.
  const isOfItsKind = (name: string): boolean =>
    model.options.kind !== kind &&
    kind === 'classifier' &&
    (!wanted.has(name) || name.startsWith('classifier.'));
  const differences = [...new Set([...wanted.keys(), ...given.keys()])]
    .filter((name) => !isOfItsKind(name))
    .map((name) => ({ name, there: format(given.get(name)), here: format(wanted.get(name)) }))
    .filter(({ there, here }) => there !== here)
    .map(({ name, there, here }) => `${name} is ${there} there and ${here} here`);
  if (differences.length > 0) {
    const more = differences.length > 4 ? `; and ${differences.length - 4} more` : '';
    throw new RecipeError(
      `the model in ${from} does not fit the recipe: ${differences.slice(0, 4).join('; ')}${more}`,
    );
  }
  for (const [name, values] of trainer.weights.all) {
    const theirs = weights.get(name);
    if (theirs) values.set(theirs);
  }
  return warnings;
}

/** The teacher that a recipe names, which must speak of the same things as the student. */
async function openTeacher(
  { train: { distillation }, model: { kind } }: Recipe,
  tokenizer: Tokenizer,
): Promise<TeacherModel | undefined> {
  if (distillation === null) return undefined;
  const { model, weights, tokenizer: theirs } = await loadModel(distillation.teacher);
  const refuse = (why: string): never => {
    throw new RecipeError(`train.distillation.teacher ${distillation.teacher} ${why}`);
  };
  if (model.options.kind !== kind) return refuse(`is of kind ${model.options.kind}, not ${kind}`);
  if (theirs?.fingerprint !== tokenizer.fingerprint)
    return refuse(
      'has another tokenizer than the recipe; name it in the recipe: "tokenizer": {"kind": "file", "path": "…/tokenizer.json"}',
    );
  return { model, weights };
}

/** Versions that decide the bits of a run. */
export function versions(): Record<string, string> {
  const require = createRequire(import.meta.url);
  const own = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const runtime = require.resolve('onnxruntime-node');
  let root = join(runtime, '..');
  while (!existsSync(join(root, 'package.json'))) root = join(root, '..');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return {
    switchyard: own.version,
    node: process.version,
    onnxruntime: version,
    icu: process.versions['icu'] ?? '',
  };
}
