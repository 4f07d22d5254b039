import { RandomWindows } from './batches/random-windows.js';
import { SequentialWindows } from './batches/sequential-windows.js';
import { ShuffledWindows } from './batches/shuffled-windows.js';
import { checkLength } from './batches/token-source.js';
import type { OpenData, OpenDataOptions } from './open.js';
import type { TextConfig } from './schema.js';
import { findText } from './text/text-corpus.js';
import { readText, type TextRange } from './text/text-range.js';
import { fingerprintOfText, openTokens } from './text/token-file.js';
import { openTokenizer } from './tokenizers/open-tokenizer.js';

/** Opens plain text. */
export async function openText(
  config: Omit<TextConfig, 'kind'>,
  options: OpenDataOptions,
): Promise<OpenData> {
  const corpus = await findText(config.path, config.validation, config.validationFraction);
  const all = [...corpus.train, ...corpus.validation];
  const tokenizer = await openTokenizer(
    config.tokenizer,
    {
      trainingText: () => textOf(corpus.train),
      // As nanoGPT does: a character that only validation has would otherwise have no id.
      characters: () => textOf(all),
      endless: false,
      fingerprint: fingerprintOfText(all, ''),
    },
    options.cacheFolder,
  );
  const train = await openTokens(corpus.train, tokenizer, options.cacheFolder);
  const validation = await openTokens(corpus.validation, tokenizer, options.cacheFolder);
  const close = (): void => {
    train.close();
    validation.close();
  };
  try {
    checkLength(train, options.contextLength, `the training text of ${config.path}`);
    if (validation.length < 2) {
      throw new RangeError(
        `the validation text of ${config.path} has ${validation.length} tokens: nothing can be predicted`,
      );
    }
    const Order = config.order === 'random' ? RandomWindows : ShuffledWindows;
    return {
      tokenizer,
      train: new Order(train, options),
      validation: () => new SequentialWindows(validation, { ...options, pad: tokenizer.special.pad ?? 0 }),
      provenance: all
        .map(({ path, start, end, size }) => `${path} (bytes ${start} to ${end} of ${size})`)
        .join('; '),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

async function* textOf(ranges: readonly TextRange[]): AsyncGenerator<string> {
  for (const range of ranges) yield* readText(range);
}
