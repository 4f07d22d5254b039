/**
 * The numbers of a report about compressed models.
 * @module
 */
import type { CompressionNumbers } from '../../compress/index.js';

/** One model: compressed, or the original beside them. */
export interface CompressedModel {
  /** Unique within the report. */
  readonly name: string;
  /** Bytes of its weights on disk. */
  readonly bytes: number;
  /** Nats per token on the report's text; null where none was given. */
  readonly loss: number | null;
  /** How it was made, layer by layer; null for an original. */
  readonly compression: CompressionNumbers | null;
}

/** All numbers of the page. Keys stay; new ones may be added. */
export interface CompressionReport {
  readonly version: 1;
  /** What losses were measured on; null where they were not. */
  readonly data: string | null;
  readonly models: readonly CompressedModel[];
}
