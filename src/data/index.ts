/**
 * Data: corpora, tokenizers and batches.
 *
 * {@link openData} is the front door: it turns the `data` section of a recipe ({@link dataSchema}) into a tokenizer,
 * an endless source of training batches and a validation sequence. The parts can be used alone.
 * @module
 */
export {
  countTokens,
  ignoredTarget,
  shapeOf,
  type AnyBatch,
  type Batch,
  type BatchSequence,
  type BatchShape,
  type BatchSource,
  type BatchState,
  type LabelledBatch,
  type PairBatch,
} from './batches/batch.js';
export {
  CorruptedSequence,
  CorruptedWindows,
  type CorruptedWindowsOptions,
} from './batches/corrupted-windows.js';
export {
  labelledExamples,
  OrderedExamples,
  pairExamples,
  ShuffledExamples,
  type Examples,
} from './batches/example-rows.js';
export { PackedLines, type LineBatchOptions } from './batches/packed-lines.js';
export { PaddedLines, PaddedValidation } from './batches/padded-lines.js';
export { RandomWindows } from './batches/random-windows.js';
export { SequentialWindows } from './batches/sequential-windows.js';
export { ShuffledWindows } from './batches/shuffled-windows.js';
export { StreamSequence, StreamWindows } from './batches/stream-windows.js';
export {
  corruptedLengths,
  corruptSpans,
  windowLength,
  type CorruptedLengths,
  type CorruptionTokens,
  type SpanCorruptionOptions,
} from './batches/span-corruption.js';
export { MemoryTokens, type TokenSource } from './batches/token-source.js';
export { CldrCorpus, type CldrCorpusOptions, type CldrLine } from './cldr/corpus.js';
export { cldrLanguages, type Language } from './cldr/languages.js';
export type { Meaning, Piece } from './cldr/meaning.js';
export type { LineCorpus, Split } from './corpus.js';
export {
  datasetPath,
  datasets,
  fetchDatasetByName,
  findDataset,
  type Dataset,
  type DatasetName,
} from './fetch/datasets.js';
export { fetchDataset, type FetchDatasetOptions, type FetchProgress } from './fetch/fetch-dataset.js';
export { openTextForEvaluation } from './open-evaluation.js';
export { openPairs, openPairsForEvaluation } from './open-pairs.js';
export { openClassification, type OpenClassification } from './open-task.js';
export { openData, type OpenData, type OpenDataOptions } from './open.js';
export {
  dataSchema,
  tokenizerSchema,
  type DataConfig,
  type DataConfigInput,
  type TaskConfig,
  type TokenizerConfig,
} from './schema.js';
export { findText, type TextCorpus } from './text/text-corpus.js';
export { readText, type TextRange } from './text/text-range.js';
export { openTokens, TokenFile } from './text/token-file.js';
export { BytePairTokenizer, type BytePairModel } from './tokenizers/byte-level-bpe.js';
export { ByteTokenizer } from './tokenizers/byte-tokenizer.js';
export { CharacterTokenizer } from './tokenizers/character-tokenizer.js';
export { ChatTemplate, chatRoles, type ChatMessage, type RenderOptions } from './tokenizers/chat-template.js';
export { convertTokenizer, isForeignVocabulary } from './tokenizers/convert/convert-tokenizer.js';
export { HuggingFaceTokenizer } from './tokenizers/hugging-face-tokenizer.js';
export { loadTokenizer } from './tokenizers/load-tokenizer.js';
export { textStart } from './tokenizers/text-start.js';
export { trainBytePair, type TrainBytePairOptions } from './tokenizers/train-byte-level-bpe.js';
export { sentinelsOf } from './tokenizers/tokenizer.js';
export type { SpecialTokens, Tokenizer, TokenizerFile } from './tokenizers/tokenizer.js';
