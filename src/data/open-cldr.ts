import { PackedLines, packValidation } from './batches/packed-lines.js';
import { PaddedLines, PaddedValidation } from './batches/padded-lines.js';
import { SequentialWindows } from './batches/sequential-windows.js';
import { CldrCorpus } from './cldr/corpus.js';
import type { OpenData, OpenDataOptions } from './open.js';
import type { CldrConfig } from './schema.js';
import { openTokenizer } from './tokenizers/open-tokenizer.js';

/** Fewer sentences would make a set of few languages too uniform. */
const leastValidationMeanings = 512;

/** Opens the built-in corpus. */
export async function openCldr(config: CldrConfig, options: OpenDataOptions): Promise<OpenData> {
  const validationMeanings = Math.max(
    leastValidationMeanings,
    Math.ceil(config.validationLines / config.languages.length),
  );
  const corpus = new CldrCorpus({ seed: options.seed, languages: config.languages, validationMeanings });
  const { batchSize, contextLength } = options;
  // Another CLDR version says other words, so a position saved under one is refused under another.
  const fingerprint = `${corpus.provenance}, seed ${corpus.seed}, ${validationMeanings} validation sentences, ${config.languages.join(' ')}`;
  const sample = (): Iterable<string> => sampleLines(corpus);
  const tokenizer = await openTokenizer(
    config.tokenizer,
    {
      trainingText: sample,
      characters: sample,
      endless: true,
      fingerprint: fingerprint,
    },
    options.cacheFolder,
  );
  const lineOptions = { batchSize, contextLength, tokenizer, fingerprint };
  const shared = {
    tokenizer,
    languages: corpus.languages,
    provenance: corpus.provenance,
    close: () => undefined,
  };
  if (config.layout === 'padded') {
    return {
      ...shared,
      train: new PaddedLines(corpus, lineOptions),
      validation: () => new PaddedValidation(corpus, lineOptions, config.validationLines),
    };
  }
  let packed: ReturnType<typeof packValidation> | undefined;
  return {
    ...shared,
    train: new PackedLines(corpus, lineOptions),
    validation: () => {
      packed ??= packValidation(corpus, tokenizer, config.validationLines, fingerprint);
      return new SequentialWindows(packed, options);
    },
  };
}

/** Training lines that a vocabulary is learnt from: about two megabytes. */
const sampleSize = 20_000;

function* sampleLines(corpus: CldrCorpus): Generator<string> {
  for (let index = 0; index < sampleSize; index++) yield `${corpus.line('train', index).text}\n`;
}
