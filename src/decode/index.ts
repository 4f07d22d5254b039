/**
 * From scores to text.
 * @module
 */
export type { Beam, BeamOptions } from './beam-search.js';
export { CachedWriter } from './cached-writer.js';
export {
  Generator,
  type FinishedText,
  type FinishReason,
  type GeneratedToken,
  type Generation,
  type GenerationEvent,
  type GenerationOptions,
} from './generator.js';
export { bucket, type GrowingTexts, type TextWriter } from './growing-texts.js';
export { KeyValueStore } from './key-value-store.js';
export { Programs, type Pass, type Passes } from './programs.js';
export { logProbabilities, penalizeRepetition, sample, type SamplingOptions } from './sampling.js';
export { SequenceWriter } from './sequence-writer.js';
export { TextStream, type Decoder } from './text-stream.js';
export { WindowWriter } from './window-writer.js';
