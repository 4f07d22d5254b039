/**
 * How many tokens a recipe's model will have.
 * @module
 */
import { openData } from '../data/index.js';
import { vocabularySize } from '../recipes/index.js';
import type { ComparedRecipe } from './plan.js';

/** Opens the data where the recipe alone does not say; what it learns then is kept in the cache folder. */
export async function vocabularyOf(
  { model, data, train, seed }: ComparedRecipe,
  cacheFolder: string,
): Promise<number> {
  // What BPE learns may be fewer tokens than it is asked for.
  if (model.vocabSize !== undefined || data.tokenizer.kind === 'byte') return vocabularySize({ model, data });
  const { contextLength } = model;
  const opened = await openData(data, { cacheFolder, contextLength, batchSize: train.batchSize, seed });
  const { vocabSize } = opened.tokenizer;
  opened.close();
  return vocabSize;
}
