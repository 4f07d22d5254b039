/**
 * Opens the data of a recipe in the batches that its model reads.
 * @module
 */
import { openData, openPairs, type AnyBatch, type OpenData } from '../data/index.js';
import type { Recipe } from './schema.js';

/** Settings of {@link openRecipeData}. */
export interface OpenRecipeOptions {
  /** Folder for learnt tokenizers and tokenised text. */
  readonly cacheFolder: string;
  /** Rows of a batch; those of the recipe's training when absent. */
  readonly batchSize?: number;
}

/**
 * Windows of text for a language model, pairs for an encoder–decoder.
 * @throws Error in one clear line where the data is missing or does not fit the model.
 */
export async function openRecipeData(
  { model, data, train, seed }: Pick<Recipe, 'model' | 'data' | 'train' | 'seed'>,
  { cacheFolder, batchSize = train.batchSize }: OpenRecipeOptions,
): Promise<OpenData<AnyBatch>> {
  const { contextLength } = model;
  const shared = { cacheFolder, batchSize, contextLength, seed };
  switch (model.kind) {
    case 'languageModel':
      return openData(data, shared);
    case 'encoderDecoder': {
      const { targetLength = contextLength } = model;
      return openPairs(data, { ...shared, targetLength });
    }
  }
}

/** Whether training batches of a recipe may contain padding. */
export function hasPadding({ model, data }: Pick<Recipe, 'model' | 'data'>): boolean {
  const isPaddedText = data.kind === 'cldr' && data.layout === 'padded';
  return isPaddedText || (model.kind !== 'languageModel' && data.kind === 'task');
}
