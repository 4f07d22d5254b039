/**
 * Data: corpora, tokenizers and batches.
 *
 * {@link openData} is the front door: it turns the `data` section of a recipe ({@link dataSchema}) into a tokenizer,
 * an endless source of training batches and a validation sequence. The parts can be used alone.
 * @module
 */
export {
  ignoredTarget,
  type Batch,
  type BatchSequence,
  type BatchShape,
  type BatchSource,
  type BatchState,
} from './batches/batch.js';
export { PackedLines, type LineBatchOptions } from './batches/packed-lines.js';
export { PaddedLines, PaddedValidation } from './batches/padded-lines.js';
export { RandomWindows } from './batches/random-windows.js';
export { SequentialWindows } from './batches/sequential-windows.js';
export { ShuffledWindows } from './batches/shuffled-windows.js';
export { MemoryTokens, type TokenSource } from './batches/token-source.js';
export { CldrCorpus, type CldrCorpusOptions, type CldrLine } from './cldr/corpus.js';
export { cldrLanguages, type Language } from './cldr/languages.js';
export type { Meaning, Piece } from './cldr/meaning.js';
export type { LineCorpus, Split } from './corpus.js';
export { openData, type OpenData, type OpenDataOptions } from './open.js';
export {
  dataSchema,
  tokenizerSchema,
  type DataConfig,
  type DataConfigInput,
  type TokenizerConfig,
} from './schema.js';
export { ByteTokenizer } from './tokenizers/byte-tokenizer.js';
export type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizers/tokenizer.js';
