/**
 * From scores to text.
 * @module
 */
export { Generator, type GenerationOptions } from './generator.js';
export { sample, type SamplingOptions } from './sampling.js';
export { KeyValueStore } from './key-value-store.js';
