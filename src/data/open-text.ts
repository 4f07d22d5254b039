import type { BatchSource } from './batches/batch.js';
import { RandomWindows } from './batches/random-windows.js';
import { SequentialWindows } from './batches/sequential-windows.js';
import { ShuffledWindows } from './batches/shuffled-windows.js';
import { StreamSequence, StreamWindows } from './batches/stream-windows.js';
import { checkLength, type TokenSource } from './batches/token-source.js';
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
    const Sequence = config.order === 'stream' ? StreamSequence : SequentialWindows;
    return {
      tokenizer,
      train: createOrder(config.order, train, options, `the training text of ${config.path}`),
      validation: () => new Sequence(validation, { ...options, pad: tokenizer.special.pad ?? 0 }),
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

function createOrder(
  order: TextConfig['order'],
  tokens: TokenSource,
  options: OpenDataOptions,
  name: string,
): BatchSource {
  switch (order) {
    case 'random':
      return new RandomWindows(tokens, options);
    case 'shuffled':
      return new ShuffledWindows(tokens, options);
    case 'stream':
      return new StreamWindows(tokens, options, name);
  }
}

async function* textOf(ranges: readonly TextRange[]): AsyncGenerator<string> {
  for (const range of ranges) yield* readText(range);
}
