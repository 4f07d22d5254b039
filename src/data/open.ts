/**
 * Opens the data of a recipe.
 * @module
 */
import type { AnyBatch, Batch, BatchSequence, BatchShape, BatchSource } from './batches/batch.js';
import type { LineCorpus } from './corpus.js';
import { findDataset } from './fetch/datasets.js';
import { openCldr } from './open-cldr.js';
import { openText } from './open-text.js';
import type { DataConfig } from './schema.js';
import type { Tokenizer } from './tokenizers/tokenizer.js';

/** What {@link openData} needs beside the recipe. */
export interface OpenDataOptions extends BatchShape {
  /** Folder for what is computed once: learnt tokenizers and tokenised text. Made if it is missing. */
  readonly cacheFolder: string;
  readonly seed: number;
  /** Folder of downloaded data sets; default `data`. */
  readonly datasetFolder?: string;
}

/** What pairs need besides. */
export interface OpenPairsOptions extends OpenDataOptions {
  /** Token that begins what the decoder reads; the pad token when absent, as T5 has it. */
  readonly start?: number;
}

/** The data of a run. */
export interface OpenData<Kind extends AnyBatch = Batch> {
  readonly tokenizer: Tokenizer;
  /** Languages that the batches number, where the corpus knows them. */
  readonly languages?: LineCorpus['languages'];
  /** Endless batches of training text. */
  readonly train: BatchSource<Kind>;
  /** The whole validation set in order; each call gives a fresh sequence. */
  validation(): BatchSequence<Kind>;
  /** What the text depends on beside the recipe (a file's size and date, the CLDR version), for the record of a run. */
  readonly provenance: string;
  /** Closes the files of the data. The batches end with it. */
  close(): void;
}

/**
 * Opens the corpus and the tokenizer of a language model's recipe; see `openPairs` and `openClassification` for others.
 *
 * @throws Error in one clear line where a file is missing, empty, not UTF-8 or too short for one context.
 * @example
 * const config = dataSchema.parse({ kind: 'cldr', languages: ['en', 'ja'] });
 * const data = await openData(config, { cacheFolder: '.cache', contextLength: 64, batchSize: 8, seed: 1 });
 * const { tokens, targets, mask, languages } = data.train.next(); // [8, 64] each
 */
export async function openData(config: DataConfig, options: OpenDataOptions): Promise<OpenData> {
  switch (config.kind) {
    case 'cldr':
      return openCldr(config, options);
    case 'text':
      return openText(config, options);
    case 'dataset':
      return openText({ ...config, path: findDataset(config.name, options.datasetFolder) }, options);
    case 'task':
      throw new Error(
        'data of kind task is for encoder–decoders and classifiers: a language model reads kind text, dataset or cldr',
      );
  }
}
