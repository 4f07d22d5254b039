/**
 * Recipes: their schema, the library that comes with the package, and errors that help.
 * @module
 */
export { explainIssues, nearestKey } from './explain.js';
export {
  loadRecipe,
  parseRecipe,
  recipeDifferences,
  RecipeError,
  recipeNames,
  recipePath,
  setPath,
} from './load.js';
export {
  recipeOfRun,
  trainRecipe,
  versions,
  type TrainedRun,
  type TrainRecipeOptions,
} from './train-recipe.js';
export { openRecipeData, type OpenRecipeOptions } from './open-recipe-data.js';
export { requireLanguageModel } from './language-model-recipe.js';
export { recipeSchema, type Recipe, type RecipeOf } from './schema.js';
export { vocabularySize } from './vocabulary.js';
