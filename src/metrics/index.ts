/**
 * Measures: pure functions of numbers.
 * @module
 */
export { loadStatistics, type LoadStatistics } from './expert-load.js';
export { bitsPerByte, perplexity } from './language-modelling.js';
