/**
 * Recipes of language models, which is what grids compare and reports draw.
 * @module
 */
import { RecipeError } from './load.js';
import type { Recipe, RecipeOf } from './schema.js';

/**
 * The recipe, known to be a language model's.
 * @throws RecipeError if it is of another kind.
 */
export function requireLanguageModel(recipe: Recipe): RecipeOf<'languageModel'> {
  const { model, ...rest } = recipe;
  if (model.kind === 'languageModel') return { ...rest, model };
  throw new RecipeError(
    `${recipe.name} is of kind ${model.kind}; a languageModel is needed here. switchyard train, eval and inspect take all kinds`,
  );
}
