/**
 * The matrix compressors by name. A new one is one file and one line here.
 * @module
 */
import type { MatrixCompressor, Scope } from '../matrix-compressor.js';
import { TruncatedSvd } from './truncated-svd.js';
import { UnstructuredPruning } from './unstructured-pruning.js';

/** All matrix compressors. */
export const matrixCompressors = {
  up: (scope: Scope): MatrixCompressor => new UnstructuredPruning(scope),
  svd: (scope: Scope): MatrixCompressor => new TruncatedSvd(scope),
} as const;

/** A key of {@link matrixCompressors}. */
export type MatrixCompressorName = keyof typeof matrixCompressors;

/** Names of all matrix compressors. */
export const matrixCompressorNames = Object.keys(matrixCompressors) as [MatrixCompressorName];
