/**
 * What is to be compressed, into what, and how.
 * @module
 */
import type { LayerLayout, JsonObject, SaveProgress, TensorSource } from '../../checkpoints/index.js';
import type { Budget } from '../budget.js';
import type { CompressionMethod, LayerExperts, LayerReport, MethodStep } from '../method.js';
import type { Redundancy } from '../redundancy.js';

/** One layer of experts to compress. */
export interface LayerJob {
  readonly layout: LayerLayout;
  /** Called when its turn comes. */
  open(): Promise<LayerExperts>;
}

/** A checkpoint to compress. */
export interface CompressionJob {
  /** The folder of the original. */
  readonly folder: string;
  /** The folder to write, which must not exist. */
  readonly out: string;
  /** Tensors of the original. */
  readonly source: TensorSource;
  /** Its `config.json`. */
  readonly config: JsonObject;
  readonly layers: readonly LayerJob[];
  readonly method: CompressionMethod;
  /** Name and settings of the method, for the reader of the new `config.json`. */
  readonly about: { readonly method: string; readonly options: JsonObject };
  readonly budget: Budget;
  readonly seed: number;
  readonly maxShardBytes?: number;
}

/** Told while a checkpoint is compressed. */
export interface CompressionListener {
  /** A layer begins, or was finished by an earlier run of the same job. */
  onLayer?(index: number, kept: boolean): void;
  onStep?(index: number, step: MethodStep): void;
  /** How much the experts of a layer have in common, before anything of it is cut. */
  onRedundancy?(index: number, redundancy: Redundancy): void;
  /** A layer is done. */
  onOutcome?(index: number, outcome: LayerOutcome): void;
  onSave?(progress: SaveProgress): void;
}

/** Parameters and bytes. */
export interface Size {
  readonly parameters: number;
  readonly bytes: number;
}

/** What became of one layer. */
export interface LayerOutcome {
  readonly name: string;
  readonly report: LayerReport;
  /**
   * Singular values of what is left of the first expert beside the centre, before it is cut, largest first; where there is a
   * centre, and the smaller side of the matrix is 512 or less.
   */
  readonly spectrum?: readonly number[];
  /** Its experts as they were. */
  readonly before: Size;
  /** Its experts by the accounting: what they must take on disk, and in memory when held as they are stored. */
  readonly after: Size;
}

/** What became of a checkpoint. */
export interface FolderOutcome {
  readonly layers: readonly LayerOutcome[];
  /** All tensors of the original, and the bytes of its files. */
  readonly before: Size;
  /** All tensors of the new folder, and the bytes of its files. */
  readonly after: Size;
  /** Bytes of the new folder's tensors by the accounting, without headers. */
  readonly predictedBytes: number;
}
