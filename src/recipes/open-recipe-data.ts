/**
 * Opens the data of a recipe in the batches that its model reads.
 * @module
 */
import {
  openClassification,
  openData,
  openPairs,
  type AnyBatch,
  type DataConfig,
  type OpenData,
  type TaskConfig,
} from '../data/index.js';
import { RecipeError } from './load.js';
import type { Recipe } from './schema.js';

/** Settings of {@link openRecipeData}. */
export interface OpenRecipeOptions {
  /** Folder for learnt tokenizers and tokenised text. */
  readonly cacheFolder: string;
  /** Rows of a batch; those of the recipe's training when absent. */
  readonly batchSize?: number;
}

/** What decides the data of a recipe. */
type DataOfRecipe = Pick<Recipe, 'model' | 'data' | 'seed'> & {
  readonly train: { readonly batchSize: number };
};

/**
 * Windows of text for a language model, pairs for an encoder–decoder, labelled texts for a classifier.
 * @throws Error in one clear line where the data is missing or does not fit the model.
 */
export async function openRecipeData(
  { model, data, train, seed }: DataOfRecipe,
  { cacheFolder, batchSize = train.batchSize }: OpenRecipeOptions,
): Promise<OpenData<AnyBatch>> {
  const { contextLength } = model;
  const shared = { cacheFolder, batchSize, contextLength, seed };
  switch (model.kind) {
    case 'languageModel':
      return openData(data, shared);
    case 'encoderDecoder': {
      const { targetLength = contextLength, decoderStartTokenId } = model;
      const start = decoderStartTokenId === undefined ? {} : { start: decoderStartTokenId };
      return openPairs(data, { ...shared, targetLength, ...start });
    }
    case 'classifier': {
      const opened = await openClassification(requireTask(data), shared);
      const { classes } = opened;
      if (classes.length === model.numLabels) return opened;
      throw new RecipeError(
        `model.numLabels is ${model.numLabels}, but ${data.kind === 'task' ? data.train : 'the data'} has ${classes.length} classes: ${classes.join(', ')}`,
      );
    }
  }
}

function requireTask(data: DataConfig): TaskConfig {
  if (data.kind === 'task') return data;
  throw new RecipeError('a classifier learns from data of kind task');
}

/** Whether training batches of a recipe may contain padding. */
export function hasPadding({ model, data }: Pick<Recipe, 'model' | 'data'>): boolean {
  const isPaddedText = data.kind === 'cldr' && data.layout === 'padded';
  return isPaddedText || (model.kind !== 'languageModel' && data.kind === 'task');
}
