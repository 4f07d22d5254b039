/**
 * How many tokens a recipe's model will know.
 * @module
 */
import { RecipeError } from './load.js';
import type { Recipe } from './schema.js';

/**
 * The vocabulary that a recipe will have, as far as it can be known without reading the corpus.
 * @throws RecipeError if only the corpus can tell.
 */
export function vocabularySize({ model, data }: Pick<Recipe, 'model' | 'data'>): number {
  const { tokenizer } = data;
  if (model.vocabSize !== undefined) return model.vocabSize;
  if (tokenizer.kind === 'byte') return tokenizer.specialTokens ? 259 : 256;
  if (tokenizer.kind === 'bpe') return tokenizer.vocabSize;
  throw new RecipeError(
    `the vocabulary of a '${tokenizer.kind}' tokenizer is known only with its text: say --set model.vocabSize=…`,
  );
}
