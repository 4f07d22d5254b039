/**
 * Texts to record a model's routing on: those of its recipe, or of a file.
 * @module
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { AnyBatch, BatchShape } from '../data/index.js';
import { loadRecipe, openRecipeData, recipeOfRun, type Recipe } from '../recipes/index.js';
import type { LoadedTextModel } from '../train/index.js';
import { openSequence } from './eval.js';

/** Where texts come from. */
export interface TextFlags {
  readonly data?: string;
  readonly recipe?: string;
  readonly batchSize: number;
  readonly cache: string;
}

/** Batches of texts in the same order every time. */
export interface RecordedTexts {
  readonly batches: Iterable<AnyBatch> & Pick<BatchShape, 'contextLength'>;
  readonly name: string;
  close(): void;
}

/** The validation set of a recipe, or a file. */
export async function validationTexts(
  path: string,
  loaded: LoadedTextModel,
  flags: TextFlags,
): Promise<RecordedTexts> {
  const { sequence: batches, name, close } = await openSequence(path, loaded, flags);
  return { batches, name, close };
}

/** The training set of a recipe, each example of a task once, shuffled; or a file. */
export async function trainingTexts(
  path: string,
  loaded: LoadedTextModel,
  flags: TextFlags,
): Promise<RecordedTexts> {
  const from = flags.recipe ?? path;
  const recipe = await recipeFrom(from, flags.recipe !== undefined);
  if (flags.data !== undefined || recipe === undefined) return validationTexts(path, loaded, flags);
  const { kind } = loaded.model.options;
  if (recipe.model.kind !== kind)
    throw new Error(`${path} holds a model of kind ${kind}, but the recipe is of kind ${recipe.model.kind}`);
  const folder = existsSync(join(path, 'recipe.json')) ? join(path, 'model') : path;
  const tokenizer = { kind: 'file', path: join(folder, 'tokenizer.json') } as const;
  const opened = await openRecipeData(
    { ...recipe, model: loaded.model.options, data: { ...recipe.data, tokenizer } },
    { cacheFolder: flags.cache, batchSize: flags.batchSize },
  );
  const { train } = opened;
  const start = train.state();
  const batches = {
    contextLength: train.contextLength,
    *[Symbol.iterator](): Generator<AnyBatch> {
      train.restore(start);
      // Text has no end; the examples of a task are each read once.
      while (!('epoch' in train && (train.epoch as number) >= 1)) yield train.next();
    },
  };
  return { batches, name: `training set of ${from}`, close: () => opened.close() };
}

async function recipeFrom(name: string, isNamed: boolean): Promise<Recipe | undefined> {
  if (existsSync(join(name, 'recipe.json'))) return recipeOfRun(name);
  return isNamed ? loadRecipe(name) : undefined;
}
