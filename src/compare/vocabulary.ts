/**
 * How many tokens a recipe's model will have.
 * @module
 */
import { openData } from '../data/index.js';
import type { ComparedRecipe } from './plan.js';

/** Opens the data where the recipe alone does not say; what it learns then is kept in the cache folder. */
export async function vocabularyOf(
  { model, data, train, seed }: ComparedRecipe,
  cacheFolder: string,
): Promise<number> {
  if (model.vocabSize !== undefined) return model.vocabSize;
  if (data.tokenizer.kind === 'byte') return data.tokenizer.specialTokens ? 259 : 256;
  const { contextLength } = model;
  const opened = await openData(data, { cacheFolder, contextLength, batchSize: train.batchSize, seed });
  const { vocabSize } = opened.tokenizer;
  opened.close();
  return vocabSize;
}
