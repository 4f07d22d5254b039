/**
 * Recipes of language models, which is what is trained, measured and compared today.
 * @module
 */
import { RecipeError } from './load.js';
import type { Recipe, RecipeOf } from './schema.js';

/**
 * The recipe, known to be a language model's.
 * @throws RecipeError if it is an encoder–decoder's: those are described and sized, not trained.
 */
export function requireLanguageModel(recipe: Recipe): RecipeOf<'languageModel'> {
  const { model, ...rest } = recipe;
  if (model.kind === 'languageModel') return { ...rest, model };
  throw new RecipeError(
    `training encoder–decoder models such as ${recipe.name}: not yet; switchyard inspect works`,
  );
}
